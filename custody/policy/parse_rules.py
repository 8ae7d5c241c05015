"""Read one rule: what it matches and what follows. What this version cannot judge is refused by name."""

from __future__ import annotations

from custody.errors import MalformedError
from custody.fields import Fields
from custody.policy.document import Mode, Rule, RuleKind
from custody.policy.duties import (
    AllVotes,
    AnyVotes,
    Budget,
    Delay,
    GroupBy,
    Measure,
    Obligations,
    SignersRequired,
    StagedVotes,
    Veto,
    Votes,
    VoteTree,
)
from custody.policy.match import coordinator_only, leaves
from custody.policy.parse_match import items, names, read_match, word
from custody.policy.terms import (
    AmountTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationTerm,
    FeeTerm,
    InputsTerm,
    MessageTerm,
    NoPaymentsTerm,
    Operation,
    RelationTerm,
    ReplacementTerm,
    ShapeTerm,
    WalletShareTerm,
)
from custody.units import MAX_MONEY_SATS
from custody.wallet import Network

MAX_VOTE_LEAVES = 12  # parts of one approvals tree: choices multiply, and people must be able to read it
MAX_STAGES = 4  # one after the other; more rounds than this outlive the withdrawal
MAX_DELAY_S = 30 * 86_400  # a longer wait than rules are likely to live is a deny
_OF_MONEY = (
    AmountTerm,
    ChangeTerm,
    ConfirmationsTerm,
    DestinationTerm,
    FeeTerm,
    InputsTerm,
    NoPaymentsTerm,
    RelationTerm,
    ReplacementTerm,
    ShapeTerm,
    WalletShareTerm,
)


def read_rule(fields: Fields, network: Network) -> Rule:
    """Return the rule in `fields`, whose addresses are of `network`; leftovers are the caller's to refuse.

    Raises:
        MalformedError: POLICY_NOT_SUPPORTED, POLICY_EMPTY_MATCHER, POLICY_TOO_DEEP, POLICY_BUDGET, POLICY_VOTES,
            POLICY_OPERATION, POLICY_COORDINATOR_FACT, and ADDRESS_ and FIELD_ codes.
    """
    kind = word(fields, "kind", RuleKind)
    obligations, budget = None, None
    if kind is RuleKind.REQUIRE:
        obligations = _read_obligations(fields.fields("then"))
    elif kind is RuleKind.LIMIT:
        budget = _read_budget(fields.fields("then"))
    rule = Rule(
        id=fields.name("id"),
        kind=kind,
        mode=word(fields, "mode", Mode) if fields.has("mode") else Mode.ENFORCE,
        operations=items(fields, "operations", lambda item: word(item, "item", Operation)) or (Operation.WITHDRAWAL,),
        match=read_match(fields.any("match"), network, f"{fields.where}.match"),
        obligations=obligations,
        budget=budget,
        reason_code=_reason_code(fields),
        not_before=fields.time("not_before") if fields.has("not_before") else None,
        expires_at=fields.time("expires_at") if fields.has("expires_at") else None,
        description=fields.text("description", 1_000) if fields.has("description") else "",
    )
    _check_fits(rule, fields.where)
    return rule


def _check_fits(rule: Rule, where: str) -> None:
    """Refuse matchers that have no fact where this rule is judged: they would deny for ever, or never be asked."""
    if rule.kind in (RuleKind.ALLOW, RuleKind.LIMIT) and (told := coordinator_only(rule.match)):
        raise MalformedError("POLICY_COORDINATOR_FACT", f"{where}.match: no signer can judge {', '.join(told)}")
    matchers = leaves(rule.match)
    is_of_money = rule.kind is RuleKind.LIMIT or any(isinstance(term, _OF_MONEY) for term in matchers)
    if Operation.MESSAGE in rule.operations and is_of_money:
        raise MalformedError("POLICY_OPERATION", f"{where}: a message has no payee, amount, fee or budget")
    if Operation.WITHDRAWAL in rule.operations and any(isinstance(term, MessageTerm) for term in matchers):
        raise MalformedError("POLICY_OPERATION", f"{where}: expected operations [message] beside match.message")


def _reason_code(fields: Fields) -> str:
    if not fields.has("reason_code"):
        return ""
    code = fields.text("reason_code", 64)
    if not code.replace("_", "A").isalnum() or not code.isascii() or code.upper() != code:
        raise MalformedError("FIELD_NAME", f"{fields.where}.reason_code: expected A-Z, 0-9 and underscores")
    return code


def _read_obligations(fields: Fields) -> Obligations:
    obligations = Obligations(
        approvals=_read_tree(fields.fields("approvals")) if fields.has("approvals") else None,
        signers=_read_signers(fields.fields("signers")) if fields.has("signers") else None,
        delay=_read_delay(fields.fields("delay")) if fields.has("delay") else None,
        local_conf=fields.boolean("local_conf") if fields.has("local_conf") else False,
    )
    fields.done()
    if obligations == Obligations():
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{fields.where}: expected something that is required")
    return obligations


def _read_tree(fields: Fields) -> VoteTree:
    tree = _read_votes(fields, 4)
    if _count_leaves(tree) > MAX_VOTE_LEAVES:
        raise MalformedError("POLICY_VOTES", f"{fields.where}: expected at most {MAX_VOTE_LEAVES} parts")
    return tree


def _count_leaves(tree: VoteTree) -> int:
    if isinstance(tree, Votes):
        return 1
    return sum(_count_leaves(part) for part in (tree.stages if isinstance(tree, StagedVotes) else tree.parts))


def _read_votes(fields: Fields, depth: int) -> VoteTree:
    for key, most in (("all_of", 16), ("any_of", 16), ("stages", MAX_STAGES)):
        if fields.has(key):
            if depth == 0:
                raise MalformedError("POLICY_TOO_DEEP", f"{fields.where}: expected at most 4 levels")
            parts = tuple(
                _read_votes(Fields(part, f"{fields.where}.{key}[{at}]"), depth - 1)
                for at, part in enumerate(fields.items(key, most))
            )
            fields.done()
            if not parts:
                raise MalformedError("POLICY_VOTES", f"{fields.where}.{key}: expected at least one part")
            return AllVotes(parts) if key == "all_of" else AnyVotes(parts) if key == "any_of" else StagedVotes(parts)
    return _read_leaf(fields)


def _read_leaf(fields: Fields) -> Votes:
    if fields.has("exclude_initiator") and not fields.boolean("exclude_initiator"):
        raise MalformedError("POLICY_NOT_SUPPORTED", f"{fields.where}.exclude_initiator: the initiator never counts")
    group = fields.name("group") if fields.has("group") else None
    service = fields.name("service") if fields.has("service") else None
    if (group is None) == (service is None):
        raise MalformedError("POLICY_VOTES", f"{fields.where}: expected group or service, one of them")
    most = 64 if service is None else 1
    threshold = fields.integer("threshold", 1, most) if group is not None or fields.has("threshold") else 1
    blind = fields.boolean("blind") if fields.has("blind") else False
    seen = fields.integer("seen", 0, threshold) if fields.has("seen") else 1
    lifetime = fields.integer("lifetime_s", 1, MAX_DELAY_S) if fields.has("lifetime_s") else None
    distinct_orgs = fields.boolean("distinct_orgs") if fields.has("distinct_orgs") else False
    device_bound = fields.boolean("device_bound") if fields.has("device_bound") else False
    fields.done()
    if seen == 0 and not blind:
        raise MalformedError("POLICY_VOTES", f"{fields.where}: expected seen >= 1, or blind true")
    if distinct_orgs and (blind or service is not None):
        raise MalformedError("POLICY_VOTES", f"{fields.where}: expected distinct_orgs with seen people alone")
    return Votes(group, service, threshold, seen if blind else threshold, blind, lifetime, distinct_orgs, device_bound)


def _read_signers(fields: Fields) -> SignersRequired:
    signers = SignersRequired(
        include=tuple(sorted(names(fields, "include"))),
        exclude=tuple(sorted(names(fields, "exclude"))),
        min_offline=fields.integer("min_offline", 1, 15) if fields.has("min_offline") else 0,
    )
    fields.done()
    if signers == SignersRequired():
        raise MalformedError("POLICY_EMPTY_MATCHER", f"{fields.where}: expected include, exclude or min_offline")
    return signers


def _read_delay(fields: Fields) -> Delay:
    seconds = fields.integer("seconds", 1, MAX_DELAY_S)
    vetoes: tuple[Veto, ...] = ()
    if fields.has("veto"):
        veto = fields.fields("veto")
        vetoes = (Veto(veto.name("group"), veto.integer("threshold", 1, 64)),)
        veto.done()
    fields.done()
    return Delay(seconds, vetoes)


def _read_budget(fields: Fields) -> Budget:
    measures = [measure for measure in Measure if fields.has(measure.value)]
    if len(measures) != 1:
        raise MalformedError("POLICY_BUDGET", f"{fields.where}: expected one of max_sats, max_count, max_fee_sats")
    exceeding = fields.text("on_exceed")
    if exceeding not in ("deny", "require"):
        raise MalformedError("POLICY_BUDGET", f"{fields.where}.on_exceed: expected deny or require")
    budget = Budget(
        window=fields.name("window"),
        measure=measures[0],
        most=fields.integer(measures[0].value, 0, MAX_MONEY_SATS),
        group_by=items(fields, "group_by", lambda item: word(item, "item", GroupBy)),
        approvals=_read_tree(fields.fields("approvals")) if exceeding == "require" else None,
    )
    fields.done()
    return budget
