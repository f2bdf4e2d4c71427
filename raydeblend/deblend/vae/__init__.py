"""The variational autoencoder as a deblender (Nemani et al. 2023)."""
