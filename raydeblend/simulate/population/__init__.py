"""A realistic population: galaxies as COSMOS has them, real ones among them, and its stars."""
