"""What is measured of any form of a network: accuracy, speed, parity, rounding; and the verdict on it."""
