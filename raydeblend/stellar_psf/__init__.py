"""PSFs from the stars of coadds, where none were delivered."""
