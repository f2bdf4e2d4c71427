"""A function on two workers that talk to each other, as Ray Train would start them."""

from collections.abc import Callable

import torch


def on_two_workers(work: Callable[..., None], *arguments: object) -> None:
    """Call `work(rank, *arguments)` here as worker 0, and in another process as worker 1."""
    other = torch.multiprocessing.get_context("spawn").Process(target=work, args=(1, *arguments))
    other.start()
    work(0, *arguments)
    other.join()
    assert other.exitcode == 0
