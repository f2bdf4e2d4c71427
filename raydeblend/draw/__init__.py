"""Pictures of a finished catalog: one blend, and the whole sky."""
