"""Graph encoders: translating embeddings (TwHIN) and convolution (LightGCN) over one typed, weighted graph of flat arrays."""
