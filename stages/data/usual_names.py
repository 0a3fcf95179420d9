"""What arrays and columns are called where nobody says which is which."""

INPUT_KEYS = (
    "x", "inputs", "input", "images", "image", "img", "data", "features",
    "input_ids", "tokens", "input_values",
)  # fmt: skip

LABEL_KEYS = ("y", "labels", "label", "targets", "target", "classes", "class")
