"""TFLite Micro's arithmetic, which CMSIS-NN and LiteRT's reference kernels share but for what is said.

Products are requantized as in ``fixed_point``, by double rounding; the modules here hold the operators that
are computed otherwise. Constants follow from the values' scales, as the runtime derives them when it
prepares: in double precision from float32 scales. Source: tensorflow/tflite-micro, and
tensorflow/lite/kernels/internal/reference.
"""
