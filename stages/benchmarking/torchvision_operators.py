"""torchvision without its compiled operators, which zoos import and do not call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def optional_torchvision_operators() -> Iterator[None]:
    """Let torchvision be imported where its compiled operators are missing: torch then knows none of them.

    timm and transformers import it for transforms and feature extraction. Beside a build of torch that
    torchvision's own does not fit, describing its operators (``torch.library.register_fake``) fails.
    """
    original: Callable[..., Any] = torch.library.register_fake

    def register(op: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(op, *args, **kwargs)
        if not str(op).startswith("torchvision::"):
            return done

        def where_it_is(function: Any) -> Any:
            try:
                return done(function)
            except RuntimeError:  # "operator torchvision::nms does not exist"
                return function

        return where_it_is

    torch.library.register_fake = register
    try:
        yield
    finally:
        torch.library.register_fake = original
