"""The networks of the papers, one file per family; scaling and weights beside them."""
