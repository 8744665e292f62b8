"""Capture a training step as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Steps before the capture, in which libraries choose their algorithms and allocate memory.
_WARM_UP = 3


def capture(
    step: Callable[[], None], clear_gradients: Callable[[], None], state: Callable[[], list[torch.Tensor]]
) -> Callable[[], None]:
    """Capture a step, so that a single launch replaces thousands, whose overhead exceeds their work.

    Args:
        step: The step. It must not wait for the device.
        clear_gradients: Sets the gradients to None.
        state: Returns the tensors that a step changes. After the first step the list may be longer; tensors that are
            added then, such as the optimizer's, must start as 0.

    Returns:
        A function that executes the captured step. The state is as it was before the call.
    """
    kept = [t.detach().clone() for t in state()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            clear_gradients()
            step()
    torch.cuda.current_stream().wait_stream(stream)
    clear_gradients()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    with torch.no_grad():
        changed = state()
        for i, tensor in enumerate(changed):
            tensor.copy_(kept[i] if i < len(kept) else torch.zeros_like(tensor))
    return graph.replay
