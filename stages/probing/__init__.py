"""Which arithmetic an installed runtime has: networks of one operator, fed where the roundings disagree."""
