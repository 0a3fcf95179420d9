"""TFLite files: their bytes, what they say, and its form in our programs."""
