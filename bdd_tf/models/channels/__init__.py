"""Input channels computed from an image inside the network: one module per filter.

Each filter is a function on grey levels (:func:`bdd_tf.models.channels.grey.grey`) and a Keras layer on RGB images. They
use only TensorFlow operations that TFLite converts, so a converted file contains them. The default formulas are those of
Lanzino et al. (arXiv 2406.04932, section 3.2) as published in code, which divides every channel by 255.
``variant="stable"`` rescales to [0, 1] where that range is poor. :mod:`bdd_tf.models.forensic_channels` concatenates them.
"""
