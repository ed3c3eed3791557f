"""Fine-tuning a language model: what its runs came to, and figures."""
