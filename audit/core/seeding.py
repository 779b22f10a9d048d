"""Random draws that depend on the seed and the example alone: never on batch size, order or device.

A counter-based generator: every number is a hash of (example key, stream, position), so nothing is stateful and a draw
on a GPU has the bits it has on a CPU. The hash is the finaliser of SplitMix64, mix64variant13 (Steele, Lea and Flood
2014, "Fast splittable pseudorandom number generators", OOPSLA).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from values, the same on every machine: the start of the SHA-256 of their texts.

    Args:
        parts: Values whose `str` is the same on every machine.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def content_ids(images: Tensor) -> tuple[str, ...]:
    """An id for each image from its pixels, so that random draws follow the image wherever it stands in a batch.

    Args:
        images: Float (N, C, H, W), hashed as float32.

    Returns:
        The first 16 hexadecimal digits of the SHA-256 of each image.
    """
    array = images.detach().to("cpu", torch.float32).contiguous().numpy()
    return tuple(hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in array)


@dataclass(frozen=True)
class Generators:
    """One stateless random generator per example.

    Drawing twice gives the same numbers: `fork` first.

    Attributes:
        keys: Key of each generator, int64 (N,).
    """

    keys: Tensor

    @classmethod
    def of(cls, ids: Iterable[str], *, seed: int, purpose: str, device: torch.device | str) -> Generators:
        """Generators for examples.

        Args:
            ids: Id of each example.
            seed: The seed of the run.
            purpose: What the draws are for; different purposes draw independently.
            device: Where to draw.
        """
        keys = [derive_seed(seed, purpose, name) for name in ids]
        return cls(torch.tensor(keys, dtype=torch.int64, device=device))

    def __len__(self) -> int:
        return self.keys.shape[0]

    def select(self, index: Tensor) -> Generators:
        """Some of the generators.

        Args:
            index: Their positions, int64 (M,), or a mask, bool (N,).
        """
        return Generators(self.keys[index])

    def fork(self, stream: int | Tensor) -> Generators:
        """Independent generators for a step, a restart or a part of a method.

        Args:
            stream: Number of the stream: an int for all examples, or int64 (N,) with one per example.
        """
        if isinstance(stream, int):
            return Generators(_mix(self.keys + _signed((stream + 1) * _MIX_2)))
        return Generators(_mix(self.keys + (stream + 1) * _signed(_MIX_2)))

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), of 24 random bits each.

        Args:
            shape: Shape of the draw of one example.

        Returns:
            Float32 (N, *shape).
        """
        return self._bits(shape, 24).to(torch.float32).div_(1 << 24)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers by the Box-Muller transform (Box and Muller 1958).

        Args:
            shape: Shape of the draw of one example.

        Returns:
            Float32 (N, *shape).
        """
        first = (self.fork(0)._bits(shape, 24).to(torch.float32) + 1) / (1 << 24)
        angle = self.fork(1).uniform(*shape) * (2 * math.pi)
        return (-2 * first.log()).sqrt() * angle.cos()

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """Uniform integers in [0, high), by the remainder of 53 random bits.

        Args:
            high: The exclusive upper bound, at least 1: an int, or an int64 tensor that broadcasts to (N, *shape).
            shape: Shape of the draw of one example.

        Returns:
            int64 (N, *shape).
        """
        return (self._bits(shape, 53) % high).to(torch.int64)

    def bernoulli(self, probability: float, *shape: int) -> Tensor:
        """Booleans that are True with a probability, which is rounded to 24 binary digits.

        Each hash gives a random bit to 64 draws at once, for one binary digit of the probability. From the last digit
        to the first, a random bit is or-ed in where the digit is 1 and and-ed in where it is 0: that halves the
        probability so far and adds half of the digit.

        Args:
            probability: In [0, 1].
            shape: Shape of the draw of one example.

        Returns:
            bool (N, *shape).
        """
        count = round(probability * (1 << 24))
        if not 0 < count < 1 << 24:
            return torch.full((len(self), *shape), count > 0, device=self.keys.device)
        size = math.prod(shape)
        words = torch.zeros(len(self), -(-size // 64), dtype=torch.int64, device=self.keys.device)
        for digit in range((count & -count).bit_length() - 1, 24):
            random = self.fork(digit)._words(words.shape[1])
            words = words | random if count >> digit & 1 else words & random
        bits = words[..., None] >> torch.arange(64, device=words.device)
        return bits.bitwise_and_(1).bool().flatten(1)[:, :size].view(len(self), *shape)

    def rademacher(self, *shape: int) -> Tensor:
        """Random signs: -1 or 1 with equal probability.

        Args:
            shape: Shape of the draw of one example.

        Returns:
            Float32 (N, *shape).
        """
        return self._bits(shape, 1).to(torch.float32) * 2 - 1

    def permutations(self, size: int) -> Tensor:
        """A random permutation of range(size) for each example.

        Args:
            size: Number of elements.

        Returns:
            int64 (N, size).
        """
        return self._bits((size,), 53).argsort(dim=1)

    def _bits(self, shape: tuple[int, ...], count: int) -> Tensor:
        return _shift(self._words(math.prod(shape)), 64 - count).view(len(self), *shape)

    def _words(self, size: int) -> Tensor:
        """All 64 bits of `size` hashes for each example, int64 (N, size)."""
        position = torch.arange(1, size + 1, dtype=torch.int64, device=self.keys.device)
        return _mix(self.keys[:, None] + position * _signed(_GOLDEN))


@contextmanager
def fork_global_rng(device: torch.device, *parts: object) -> Iterator[None]:
    """Seed torch's global generators within a block, and restore their state after it.

    For code that draws from them: a user's model with random layers then answers the same in every run.

    Args:
        device: The generator of this device is seeded besides that of the CPU.
        parts: Values that the seed is derived from, see `derive_seed`.
    """
    with restored_global_rng(device):
        seed_global_rng(device, derive_seed(*parts))
        yield


@contextmanager
def restored_global_rng(device: torch.device) -> Iterator[None]:
    """Put the state of torch's global generators back after a block.

    Args:
        device: The generator of this device is put back besides that of the CPU.
    """
    before = global_rng_state(device)
    try:
        yield
    finally:
        set_global_rng_state(device, before)


def global_rng_state(device: torch.device) -> tuple[Tensor, ...]:
    """The state of torch's global generators: that of the CPU, and that of one device where it has one.

    Args:
        device: The device.
    """
    host = torch.get_rng_state()
    if device.type == "cuda":
        return host, torch.cuda.get_rng_state(device)
    return (host, torch.mps.get_rng_state()) if device.type == "mps" else (host,)


def set_global_rng_state(device: torch.device, state: tuple[Tensor, ...]) -> None:
    """Put torch's global generators into a state.

    Args:
        device: The device.
        state: What `global_rng_state` gave of it.
    """
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state[1])


def seed_global_rng(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of the CPU and of one device, whichever device is current.

    Args:
        device: The device; of several cards the one that its index names.
        seed: The seed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def torch_generator(*parts: object) -> torch.Generator:
    """A seeded torch generator on the CPU, for draws that belong to a run and not to an example.

    Args:
        parts: Values that the seed is derived from, see `derive_seed`.
    """
    return torch.Generator(device="cpu").manual_seed(derive_seed(*parts))


def _mix(bits: Tensor) -> Tensor:
    """In place after the first step: in a training step of a small net the draws' memory is what they cost."""
    bits = _shift(bits, 30).bitwise_xor_(bits).mul_(_signed(_MIX_1))
    bits.bitwise_xor_(_shift(bits, 27)).mul_(_signed(_MIX_2))
    return bits.bitwise_xor_(_shift(bits, 31))


def _shift(bits: Tensor, by: int) -> Tensor:
    """Logical right shift: torch's own copies the sign bit of an int64."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
