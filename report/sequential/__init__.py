"""Sequential learning: what its runs came to, and figures."""
