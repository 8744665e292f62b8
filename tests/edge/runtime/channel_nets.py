"""The front of a detector, forensic channels and first convolution, as `bdd convert` writes it."""

from bdd_tf.legacy_keras import tf  # isort: skip

#: Size, channels, variant, and whether the delegate runs the channels. With Haar details, the stem sees all channels.
CASES = {
    "fft and lbp": ((32, 32), ("rgb", "fft", "lbp"), "stable", True),
    "height and width differ": ((34, 48), ("rgb", "fft", "lbp"), "stable", True),
    "wider than tall, by the paper": ((64, 50), ("rgb", "fft", "lbp"), "paper", True),
    "fft alone": ((40, 36), ("rgb", "fft"), "stable", True),
    "lbp alone": ((66, 96), ("rgb", "lbp"), "paper", True),
    "transforms folded": ((128, 128), ("rgb", "fft", "lbp"), "paper", True),
    "details": ((96, 96), ("rgb", "haar"), "stable", True),
    "details, height and width differ": ((66, 130), ("rgb", "haar"), "stable", True),
    "details and fft stay with the runtime": ((32, 32), ("rgb", "fft", "haar"), "stable", False),
    "sobel stays with the runtime": ((32, 32), ("rgb", "sobel", "fft", "lbp"), "stable", False),
}


def build(size, channels, variant):
    """A .tflite file: uint8 [1, *size, 3] -> the first convolution's map, and what a binary one makes of it."""
    import larq
    import larq_compute_engine

    from bdd_tf.models.detector import NormaliseChannels
    from bdd_tf.models.forensic_channels import ForensicChannels

    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    image = tf.keras.Input((*size, 3), batch_size=1, dtype="uint8")
    x = ForensicChannels(channels, variant)(image)
    if "haar" in channels:
        x = NormaliseChannels(channels)(x)
    else:
        x = layers.Conv2D(3, 3, padding="same", bias_initializer="normal")(x)
    x = layers.Lambda(lambda t: tf.reverse(tf.reverse(t, [1]), [2]))(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", bias_initializer="normal")(x)
    y = larq.layers.QuantConv2D(
        32, 3, padding="same", pad_values=1, input_quantizer="ste_sign", kernel_quantizer="ste_sign"
    )(x)
    return larq_compute_engine.convert_keras_model(tf.keras.Model(image, [x, y]))
