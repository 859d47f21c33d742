"""Earlier states of a relaxed network that vote on soft labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from searchspaces.relaxed import Mix, RelaxedNetwork
from workers.checkpoints import Groups

PREFIX = "teacher"


class VotingTeachers:
    """The last `n` kept states of a network, each with the mixture it had.

    Args:
        n: how many vote at once.

    Attributes:
        states: by epoch, oldest first: tensors `weights.…` and `mix.…`.

    Reference: Zhu et al. 2023 (SD-DARTS), voting teachers.
    """

    def __init__(self, n: int) -> None:
        self.states: dict[int, Mapping[str, Tensor]] = {}
        self._n = n

    def add(self, epoch: int, network: RelaxedNetwork, mix: Mix, earliest: int) -> None:
        """Keep a copy of the network after `epoch`, with its mixture.

        Training may yet go back to `earliest`: who votes neither then nor later is forgotten.
        """
        weights = {f"weights.{k}": v.detach().clone() for k, v in network.state_dict().items()}
        mixture = {f"mix.{i:04}": m.detach().clone() for i, m in enumerate(mix)}
        self.states[epoch] = weights | mixture
        for old in [e for e in self.states if e <= earliest][: -self._n]:
            del self.states[old]

    def go_back(self, epoch: int) -> None:
        """Forget those of later epochs."""
        self.states = {kept: s for kept, s in self.states.items() if kept <= epoch}

    @torch.no_grad()
    def vote(self, network: RelaxedNetwork, x: Tensor) -> Tensor:
        """`(B, classes)` mean probabilities of the last `n`, on images `(B, C, H, W)`."""
        votes = []
        for state in list(self.states.values())[-self._n :]:
            weights = {k[8:]: v for k, v in state.items() if k.startswith("weights.")}
            mix = [state[k] for k in sorted(state) if k.startswith("mix.")]
            votes.append(torch.func.functional_call(network, weights, (x, mix)).softmax(1))
        return torch.stack(votes).mean(0)

    def loss(self, network: RelaxedNetwork, x: Tensor, logits: Tensor) -> Tensor:
        """`()` divergence of `logits (B, classes)` from the vote on the images they are of."""
        return F.kl_div(logits.log_softmax(1), self.vote(network, x), reduction="batchmean")

    def groups(self) -> dict[str, Mapping[str, Tensor]]:
        """States by the names they have in a checkpoint."""
        return {f"{PREFIX}{epoch}": state for epoch, state in self.states.items()}

    def restore(self, groups: Groups, device: str) -> None:
        """Take up what `groups` gave, among other groups."""
        found = {int(n.removeprefix(PREFIX)): n for n in groups if n.startswith(PREFIX)}
        self.states = {
            epoch: {k: v.to(device) for k, v in groups[found[epoch]].items()}
            for epoch in sorted(found)
        }
