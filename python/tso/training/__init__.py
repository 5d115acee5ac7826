"""Training: the dual-clip loss on kept pairs, and the reference it is taken against."""
