"""What an air-gapped operator reads before a signature is made: only facts that this node has proven."""

from __future__ import annotations

from custody.address import address_of, script_of
from custody.approval import read_approval
from custody.bundle import Bundle
from custody.entries import Release
from custody.follow import State
from custody.message import Message
from custody.transaction import TxOut
from custody.units import Sats, btc_text
from custody.wallet import Network
from custody.withdrawal import Withdrawal, read_withdrawal
from custody.words import word_rows


def address_groups(address: str) -> str:
    """Return `address` in groups of four, every part of equal weight (look-alikes share their ends)."""
    return " ".join(address[at : at + 4] for at in range(0, len(address), 4))


def review(bundle: Bundle, state: State, release: Release) -> str:
    """Return the page for the operator of this node.

    Args:
        bundle: judged and cleared.
        state: what this node followed, the release included.
        release: the release that was judged equal to the transaction.
    """
    withdrawal = read_withdrawal(bundle.withdrawal)
    network = state.genesis.network
    lines = [f"Withdrawal {withdrawal.withdrawal_id} asked by {withdrawal.initiator} on {network.value}", ""]
    for payment in release.payments:
        lines.append(f"  pay {btc_text(payment.amount)} BTC to")
        lines.append(f"      {address_groups(address_of(payment.script, network))}")
        lines.extend(f'      requester says: "{label}"' for label in _labels(withdrawal, payment, network))
    if not release.payments:
        lines.append("  pays nobody: the coins come back to us")
    for index, amount in release.change:
        lines.append(f"  change {btc_text(amount)} BTC comes back to us, derived here (1/{index})")
    lines += [
        f"  fee {btc_text(release.fee_sats)} BTC (at most {btc_text(release.max_fee_sats)})",
        "",
        f"Approved by {', '.join(_approvers(bundle)) or 'nobody: the rules ask for none'}",
        f"Log: entry {bundle.release_index} of {state.size}; rules version {state.policy.version} allow it",
        "",
        "Compare these words with the approvers' screens:",
        *(f"  {row}" for row in word_rows(withdrawal.digest).splitlines()),
    ]
    return "\n".join(lines)


def review_message(bundle: Bundle, state: State, message: Message) -> str:
    """Return the page of a message to be signed. message: judged and cleared; to_sign was made here from it."""
    wallet = state.genesis.wallet(message.wallet_id)
    address = "" if wallet is None else address_of(wallet.wallet.script(0, message.index).script, state.genesis.network)
    lines = [
        f"Message {message.message_id} asked by {message.initiator} on {state.genesis.network.value}",
        f"  signed ({message.format.value}, BIP-322) for our address",
        f"      {address_groups(address)}",
        "  spends nothing; it says:",
        *(f"      | {line}" for line in message.text.split("\n")),
    ]
    if message.coins:
        total = btc_text(Sats(sum(coin.sats for coin in message.coins)))
        lines.append(f"  and shows {len(message.coins)} coins of {total} BTC")
    return "\n".join(
        [
            *lines,
            "",
            f"Approved by {', '.join(_approvers(bundle)) or 'nobody: the rules ask for none'}",
            f"Log: entry {bundle.release_index} of {state.size}; rules version {state.policy.version} allow it",
            "",
            "Compare these words with the approvers' screens:",
            *(f"  {row}" for row in word_rows(message.digest).splitlines()),
        ]
    )


def _labels(withdrawal: Withdrawal, payment: TxOut, network: Network) -> list[str]:
    """Return what the requester says of exactly this payment: same script, same amount."""
    return [
        said.label
        for said in withdrawal.payments
        if said.label and (script_of(said.address, network), said.amount_sats) == (payment.script, payment.amount)
    ]


def _approvers(bundle: Bundle) -> list[str]:
    return sorted(read_approval(signed).approver for signed in bundle.approvals)
