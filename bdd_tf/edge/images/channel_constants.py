"""Constants of the input channels' formulas, shared by NumPy (here), Keras and PyTorch. No imports."""

#: OpenCV's fixed-point weights of BGR2GRAY. The published code passes RGB data to it, so the weights of red and blue
#: are exchanged. This order is kept because the published network weights were trained with it.
GREY_WEIGHTS = (3735, 19235, 9798)
#: Fractional bits of :data:`GREY_WEIGHTS`: grey = (sum + half) >> bits.
GREY_BITS = 15

#: Rec. 601 luma of RGB in the correct order, for colour augmentation and the Haar channels.
LUMA = (0.299, 0.587, 0.114)

#: Grey levels at which Haar details and the median residual are clipped.
DETAIL_RANGE = 16.0

#: Radius of the local binary pattern in pixels; its three points are at 0, 120 and 240 degrees.
LBP_RADIUS = 6
#: Bilinear weights of the points at row offset +-6 sin(120 degrees) = +-5.19615 (scikit-image rounds to five decimals),
#: as integers over 20,000: row 6 and row 5. Integers make every comparison with the centre exact in float32.
LBP_FAR, LBP_NEAR = 3923, 16077

#: OpenCV's separable Sobel kernel for ksize=7.
SOBEL_SMOOTH = (1, 6, 15, 20, 15, 6, 1)
SOBEL_DERIVE = (-1, -4, -5, 0, 5, 4, 1)
