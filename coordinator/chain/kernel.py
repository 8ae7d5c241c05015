"""Bitcoin Core's consensus code over a throw-away data directory.

The kernel flushes on a clean exit only, so nothing here is kept: databases live in memory, the directory is made anew
at each start, and whoever uses this replays his own blocks. One thread at a time.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pbk
from pbk.util.exc import ProcessBlockException

from custody.errors import Refused, UnavailableError


@dataclass(frozen=True, slots=True)
class Step:
    """The best chain lost or gained one block at its tip.

    block_hash: 32 bytes, wire order.
    """

    is_connected: bool
    block_hash: bytes


class Kernel:
    """A regtest chain state.

    Args:
        directory: deleted and made anew.

    Raises:
        UnavailableError: KERNEL_DIRECTORY.
    """

    def __init__(self, directory: Path) -> None:
        self._verdicts: dict[bytes, tuple[pbk.ValidationMode, pbk.BlockValidationResult]] = {}
        self._steps: list[Step] = []
        try:
            shutil.rmtree(directory, ignore_errors=True)
            (directory / "blocks").mkdir(parents=True)
        except OSError as error:
            raise UnavailableError("KERNEL_DIRECTORY", f"expected a new directory, found {error.strerror}") from error
        # Callbacks run inside process_block, and ctypes swallows what they raise: they only take notes.
        context = pbk.make_context(
            pbk.ChainType.REGTEST,
            pbk.ValidationInterfaceCallbacks(
                block_checked=self._note_verdict,
                block_connected=lambda _user, _block, entry: self._note_step(True, entry),
                block_disconnected=lambda _user, _block, entry: self._note_step(False, entry),
            ),
        )
        options = pbk.ChainstateManagerOptions(context, str(directory), str(directory / "blocks"))
        options.update_block_tree_db_in_memory(True)
        options.update_chainstate_db_in_memory(True)
        self._manager = pbk.ChainstateManager(options)

    def submit(self, raw: bytes) -> tuple[Step, ...] | Refused:
        """Judge the raw block and return what it did to the best chain, in order; empty for a shorter branch.

        Refused BLOCK_INVALID: the block breaks consensus. Reads the `block_checked` callback, since process_block
        also returns normally for a block that then fails to connect.
        """
        self._verdicts.clear()
        self._steps.clear()
        block = pbk.Block(raw)
        try:
            self._manager.process_block(block)
        except ProcessBlockException:
            return self._refusal(bytes(block.block_hash))
        # The block that fails may be an earlier one of a branch that only now got long enough to be connected. The
        # kernel is then back on the chain it was on, so the steps cancel out.
        for block_hash, (mode, _) in self._verdicts.items():
            if mode is not pbk.ValidationMode.VALID:
                return self._refusal(block_hash)
        return tuple(self._steps)

    def close(self) -> None:
        """Let go of memory and files; nothing works afterwards."""
        del self._manager

    def _refusal(self, block_hash: bytes) -> Refused:
        _, result = self._verdicts.get(block_hash, (None, pbk.BlockValidationResult.UNSET))
        return Refused("BLOCK_INVALID", "a block that consensus accepts", f"{result.name} {block_hash[::-1].hex()}")

    def _note_verdict(self, _user: object, block: pbk.Block, state: pbk.BlockValidationState) -> None:
        self._verdicts[bytes(block.block_hash)] = (state.validation_mode, state.block_validation_result)

    def _note_step(self, is_connected: bool, entry: pbk.BlockTreeEntry) -> None:
        self._steps.append(Step(is_connected, bytes(entry.block_hash)))


def transactions_of(raw: bytes) -> tuple[bytes, ...]:
    """Return the raw transactions of the raw block, the coinbase first."""
    return tuple(bytes(transaction) for transaction in pbk.Block(raw).transactions)
