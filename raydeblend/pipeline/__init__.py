"""The survey path: plan, stages, ledger, and the Ray Data graph in `survey`."""
