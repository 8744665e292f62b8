"""C++ kernels that train the blocks of a BNext."""
