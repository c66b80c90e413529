"""The front door: one module per noun."""
