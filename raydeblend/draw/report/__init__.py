"""The page about a run: `raydeblend report OUT` where OUT is a catalog."""
