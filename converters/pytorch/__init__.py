"""Read and write PyTorch checkpoints."""
