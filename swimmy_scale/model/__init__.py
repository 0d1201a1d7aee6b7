"""The autoencoder, on Keras and in numba: building, training, scoring."""
