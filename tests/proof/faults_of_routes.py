"""Deliberate faults in the choice of rules, in provenance and in equality; each is caught where routes are explored."""

from __future__ import annotations

from types import ModuleType

from handler.core import batch, decide, mapping, reconcile
from tests.proof import routes
from tests.proof.invariants import Invariant
from tests.proof.mutants import Mutant
from tests.proof.routes import Family


def _fault(fault: str, module: ModuleType, old: str, new: str, invariant: Invariant, *families: Family) -> Mutant:
    return Mutant(fault, old, new, module, invariant=invariant, families=families)


ROUTES = (
    _fault(
        "takes a copy that names no key for one of the event's key",
        mapping,
        'metadata.get(PROVENANCE + "key", rule.destination_key(key))',
        'metadata.get(PROVENANCE + "key", key)',
        Invariant.DELETED_LIVE,
        routes.shared_names,
    ),
    _fault(
        "does not write the key where the name does not tell it",
        mapping,
        "if rule.destination_key(original.key) != original.key:",
        "if False:",
        Invariant.DELETED_LIVE,
        routes.shared_names,
    ),
    _fault(
        "writes the key of replaced prefixes only",
        mapping,
        "if rule.destination_key(original.key) != original.key:",
        "if rule.replace_prefix is not None:",
        Invariant.DELETED_LIVE,
        routes.shared_names,
    ),
    _fault(
        "judges a delete by the rule of the highest priority",
        decide,
        "[rule for rule in rules if rule.id == mapping.made_by(replica)] or rules",
        "rules[:1]",
        Invariant.DELETED_KEPT,
        routes.tags,
    ),
    _fault(
        "deletes where the rule that made the copy is gone, whatever the others say",
        decide,
        "== mapping.made_by(replica)] or rules",
        "== mapping.made_by(replica)] or rules[:1]",
        Invariant.DELETED_KEPT,
        routes.deployments,
    ),
    _fault(
        "does not write the rule",
        mapping,
        '        "rule": rule.id,\n',
        "",
        Invariant.LEFT,
        routes.tags,
    ),
    _fault(
        "deletes a copy of an earlier release, which may be another key's",
        decide,
        "if is_name_shared and mapping.made_by(replica) is None:",
        "if False:",
        Invariant.DELETED_LIVE,
        routes.earlier_releases,
    ),
    _fault(
        "does not see that two keys may have one name",
        batch,
        "is_name_shared=bool(named - {work.key, None})",
        "is_name_shared=False",
        Invariant.DELETED_LIVE,
        routes.earlier_releases,
    ),
    _fault(
        "deletes another source bucket's copies",
        mapping,
        'return metadata.get(PROVENANCE + "bucket") == rule.source and copied == key',
        'return PROVENANCE + "bucket" in metadata and copied == key',
        Invariant.DELETED_FOREIGN,
        routes.stores,
    ),
    _fault(
        "goes by one rule for each name",
        batch,
        "by_name[name] = (*by_name.get(name, ()), rule)",
        "by_name.setdefault(name, (rule,))",
        Invariant.MISSING,
        routes.tags,
    ),
    _fault(
        "goes to one name for each destination",
        batch,
        "name = rule.destination, rule.destination_key(work.key)",
        'name = rule.destination, ""',
        Invariant.MISSING,
        routes.shared_names,
    ),
    _fault(
        "does not ask for tags that only a rule's filter needs",
        batch,
        "any(rule.tags or rule.replicate_tags for rule in rules)",
        "any(rule.replicate_tags for rule in rules)",
        Invariant.LEFT,
        routes.tags,
    ),
    _fault(
        "believes its own notes about the headers",
        mapping,
        "_comparable(actual.headers) == _comparable(wanted.headers)",
        "True",
        Invariant.ATTRIBUTES,
        routes.third_parties,
    ),
    _fault(
        "believes its own notes about the metadata",
        mapping,
        "_compared(actual.metadata) == _compared(wanted.metadata)",
        "provenance(actual.metadata) == provenance(wanted.metadata)",
        Invariant.ATTRIBUTES,
        routes.third_parties,
    ),
    _fault(
        "leaves metadata that nobody asked for",
        mapping,
        "_compared(actual.metadata) == _compared(wanted.metadata)",
        "_compared(wanted.metadata).items() <= _compared(actual.metadata).items()",
        Invariant.ATTRIBUTES,
        routes.third_parties,
    ),
    _fault(
        "believes its own notes about the bytes",
        mapping,
        "    if len(known) > 1:\n",
        "    if False:\n",
        Invariant.MIXED,
        routes.third_parties,
    ),
    _fault(
        "patches without end what the store writes otherwise",
        reconcile,
        "if self.patched == replica.generation else decision",
        "if False else decision",
        Invariant.NO_END,
        routes.stores,
    ),
    _fault(
        "deletes a copy whose metadata changed since it looked",
        reconcile,
        "destination.delete(name, expect=expect)",
        "destination.delete(name, expect=expect._replace(metageneration=-1))",
        Invariant.DELETED_KEPT,
        routes.tags,
    ),
    _fault(
        "patches customTime back",
        decide,
        " and not mapping.is_earlier(stamp, replica.stamp):",
        ":",
        Invariant.TIME_GOES_BACK,
        routes.one_name,
    ),
    _fault(
        "takes a copy for equal before its class is changed",
        mapping,
        "first = _undigested(replace(stamp, storage_class=None, kms_key=None, lock=None))",
        "first = replace(stamp, storage_class=None, kms_key=None, lock=None)",
        Invariant.ATTRIBUTES,
        routes.rewrites,
    ),
    _fault(
        "never comes to the change of class",
        mapping,
        "return stamp if has_same_attributes(_undigested(replica.stamp), first) else first",
        "return first",
        Invariant.ATTRIBUTES,
        routes.rewrites,
    ),
)
