from efficientlab_tf.api.loading import load


def load_model(path, *, tuned=True):
    """Returns the network, the weights and the run of a model."""
    return load(path, tuned=tuned).checkpoint[:3]
