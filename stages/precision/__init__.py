"""Bits for each layer: how much the network minds few, and which to give within a budget."""
