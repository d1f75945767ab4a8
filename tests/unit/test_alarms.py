"""When the alarms of template.yaml ring: on a bucket of ten events a day, and on one of ten thousand a second.

The handler's metrics come from the real handler, in virtual time (tests/proof/virtual.py); those of SQS and Lambda are
made up as AWS documents them. `alarms.py` works the alarms' own expressions out.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from handler import backoff, observe
from handler.core.batch import Result, Work
from handler.core.breaker import Side
from handler.core.decide import Action
from handler.core.model import Rule
from handler.core.route import Outcome
from handler.core.task import Change
from tests.fakes import original_of
from tests.proof.virtual import Deployment, Shape, Trouble, steady
from tests.unit.alarms import MINUTE, Alarm, Metrics, states
from tests.unit.cfn import RESOURCES, Stack, walk

STACK = Stack(EgressAlarmGigabytes="100")
ALARMS = {name: Alarm(properties) for name, properties in STACK.of_type("AWS::CloudWatch::Alarm").items()}
RULES = json.loads(STACK.variables("ReplicatorFunction")["REPLICATION_RULES"])
COPIES = "gs://copies"
TEN_A_DAY = 10 / 86_400
MANY = 0.5
"""Events a second. Each stands for 20,000 of 10,000 a second: the alarms compare numbers, whatever their scale."""
OBJECTIVE = int(STACK.resource("OldestChangeAlarm")["Threshold"])
RINGS_WITHIN = 1 + math.ceil((1.5 * OBJECTIVE + Shape().patience) / MINUTE)
"""Minutes from the first event that an outage meets to the alarm, besides CloudWatch's own (docs/operations.md)."""
RINGS_ON = 31
"""Minutes that an alarm rings on after its cause has gone."""


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """The logger's level, which a deployment sets, as it was."""
    before = logging.getLogger(observe.logger.service).level
    yield
    observe.logger.setLevel(before)


class Sink(io.StringIO):
    """Standard output, which remembers when each metric was written."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics) -> None:
        super().__init__()
        self._clock, self._metrics = clock, metrics

    def write(self, text: str) -> int:
        if text.strip():
            self._metrics.add_embedded(self._clock(), text)
        return len(text)


class Life:
    """A deployment, a bucket of so many events a second between two minutes, and what CloudWatch hears of it."""

    def __init__(self, rate: float, *troubles: Trouble, until: int, begins: int = 1) -> None:
        self.metrics = Metrics()
        self.deployment = Deployment(Shape(instances=4), RULES)
        self.deployment.metrics = Sink(self.deployment.clock.now, self.metrics)
        self.deployment.troubles += troubles
        self.deployment.expect(steady("dummy", rate, (until - begins) * MINUTE, begins * MINUTE))
        self._minutes = 0

    def pass_(self, minutes: int) -> Life:
        """Let time pass."""
        for _ in range(minutes):
            self._minutes += 1
            self.deployment.run(until=self._minutes * MINUTE - 0.001)
            self._sample()
        return self

    def _sample(self) -> None:
        """SQS leaves messages that were received three times or more out of the age."""
        now, queue = self.deployment.clock.base, self.deployment.queue
        ages = [now - message.sent for message in queue.messages if message.settled is None and message.receives < 3]
        if ages:
            sqs(self.metrics, "ApproximateAgeOfOldestMessage", "EventsQueue", self._minutes - 1, max(ages))

    def changes(self) -> dict[str, list[int]]:
        """Return when which alarm changed its state."""
        return states(ALARMS, self.metrics, self._minutes)


def sqs(metrics: Metrics, name: str, queue: str, minute: int, value: float, late: int = 0) -> None:
    """Send a metric of SQS, which it samples once a minute."""
    metrics.add(
        minute * MINUTE,
        namespace="AWS/SQS",
        name=name,
        dimensions={"QueueName": f"{queue}.QueueName"},
        values=[value],
        late=(late + 1) * MINUTE,
    )


def reported(metrics: Metrics, minute: int, results: Sequence[Result]) -> None:
    """Have the handler report results."""
    with contextlib.redirect_stdout(Sink(lambda: minute * MINUTE, metrics)):
        observe.Observer("CrossCloudReplicator", lambda: minute * MINUTE).report(results)


def of_bytes(number: int) -> Result:
    """A copy of so many bytes."""
    change = Change(bucket="dummy", key="large", event="ObjectCreated:Put", time=datetime.fromtimestamp(0, UTC))
    outcome = Outcome(
        rule=Rule(id="any", source="dummy", destination=COPIES),
        actions=(Action.PUT,),
        why="equal",
        name="large",
        original=original_of(b""),
        bytes=number,
    )
    return Result(work=Work(bucket="dummy", key="large", changes=(change,)), outcomes=(outcome,))


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(
    ("rate", "event", "lasts"),
    [(TEN_A_DAY, 10, 300), (MANY, 5, 20)],
    ids=["ten a day", "ten thousand a second"],
)
def test_a_total_outage_rings_within_minutes_and_until_its_end(rate: float, event: int, lasts: int, side: Side) -> None:
    """Once each: they ring on while what failed waits for its next try."""
    begins, ends = 5, 5 + lasts
    outage = Trouble(side=side, begins=begins * MINUTE, ends=ends * MINUTE)
    life = Life(rate, outage, begins=1 if rate == MANY else event, until=ends if rate == MANY else event + 1)
    changes = life.pass_(ends + backoff.LONGEST // MINUTE + RINGS_ON).changes()
    assert set(changes) == {"OldestChangeAlarm", f"{side.value.title()}Alarm"}
    assert RINGS_WITHIN == 9, "the documents say so"
    for rings, stops in changes.values():
        assert event < rings <= event + RINGS_WITHIN
        assert ends <= stops <= ends + RINGS_ON
    assert not life.deployment.differences()


@pytest.mark.parametrize("rate", [TEN_A_DAY, MANY], ids=["ten a day", "ten thousand a second"])
def test_all_is_well_and_no_alarm_rings(rate: float) -> None:
    """Here and there a side is away for some seconds."""
    blips = [
        Trouble(side=side, begins=minute * MINUTE, ends=minute * MINUTE + 20.0)
        for side, minute in [(Side.SOURCE, 10), (Side.DESTINATION, 20), (Side.DESTINATION, 21)]
    ]
    life = Life(rate, *blips, until=40 if rate == MANY else 11, begins=1 if rate == MANY else 10)
    assert life.pass_(60).changes() == {}
    assert sum(trouble.met for trouble in blips), "no try met the troubles"
    assert not life.deployment.differences()


def test_one_key_that_always_fails_is_late_and_no_side_is_down() -> None:
    life = Life(MANY, Trouble(side=Side.DESTINATION, key="dummy-50"), until=30)
    changes = life.pass_(30).changes()
    assert set(changes) == {"OldestChangeAlarm"}
    assert changes["OldestChangeAlarm"][0] <= 60 / MINUTE + 50 / MANY / MINUTE + RINGS_WITHIN


def test_events_that_the_function_never_sees_ring() -> None:
    """It does not start, or is paused. From the third receive on SQS leaves them out of the age."""
    metrics = Metrics()
    for minute in range(40):
        sqs(metrics, "ApproximateAgeOfOldestMessage", "EventsQueue", minute, minute * MINUTE)
    assert states(ALARMS, metrics, 40) == {"OldestChangeAlarm": [OBJECTIVE // MINUTE + 2]}


@pytest.mark.parametrize(("queue", "wait"), [("PartsQueue", 0), ("DeletesQueue", 300)])
def test_parts_and_deletes_that_wait_ring(queue: str, wait: int) -> None:
    """A delete waits for some minutes by intent."""
    assert wait == STACK.resource(queue).get("DelaySeconds", 0)
    metrics = Metrics()
    for minute in range(20):
        sqs(metrics, "ApproximateAgeOfOldestMessage", queue, minute, minute * MINUTE)
    assert states(ALARMS, metrics, 20) == {"OldestChangeAlarm": [(OBJECTIVE + wait) // MINUTE + 2]}


def test_the_oldest_change_rings_on_between_two_tries() -> None:
    """What fails in a long outage of a quiet bucket is tried no more often than that."""
    for name in ("OldestChangeAlarm", "SourceAlarm", "DestinationAlarm"):
        properties = STACK.resource(name)
        periods = [query["MetricStat"]["Period"] for query in properties["Metrics"] if "MetricStat" in query]
        assert properties["EvaluationPeriods"] * min(periods) >= backoff.LONGEST + Shape().patience + 2 * MINUTE
        assert properties["DatapointsToAlarm"] == 1


LETTERS = ["DeadLetterQueue", "PartsDeadLetterQueue"]


def test_every_queue_that_dead_letters_go_to_is_watched() -> None:
    """Those of SQS, of the function, of EventBridge, and of invocations that failed."""
    stack = Stack(EventDelivery="EventBridge")
    targets: set[str] = set()

    def see(node: object) -> None:
        match node:
            case {"deadLetterTargetArn": str(target)} | {"DeadLetterConfig": {"Arn": str(target)}}:
                targets.add(target)
            case {"OnFailure": {"Destination": str(target)}} | {"DEAD_LETTER_QUEUE_URL": str(target)}:
                targets.add(target)

    for name, resource in RESOURCES.items():
        if "Condition" not in resource or stack.holds(resource["Condition"]):
            walk(stack.resource(name), see)
    walk(stack.variables("ReplicatorFunction"), see)
    assert {target.removesuffix(".Arn") for target in targets} == set(LETTERS)
    watched = json.dumps(stack.resource("DeadLettersAlarm")["Metrics"])
    assert all(f'"{queue}.QueueName"' in watched for queue in LETTERS)


def letters(metrics: Metrics, queue: str, minutes: Iterable[int], visible: int, taken: int = 0, late: int = 0) -> None:
    """Have SQS tell how many dead letters there are."""
    for minute in minutes:
        sqs(metrics, "ApproximateNumberOfMessagesVisible", queue, minute, visible, late)
        sqs(metrics, "ApproximateNumberOfMessagesNotVisible", queue, minute, taken, late)


@pytest.mark.parametrize("queue", LETTERS)
@pytest.mark.parametrize("late", [0, 3, 15], ids="{} minutes late".format)
def test_each_new_letter_rings_however_many_old_ones_there_are(queue: str, late: int) -> None:
    """An inactive queue's metrics are up to 15 minutes late, and there are none before."""
    metrics = Metrics()
    letters(metrics, queue, range(100, 200), 1, late=late)
    letters(metrics, queue, range(200, 300), 2, late=min(late, 3))
    changes = states(ALARMS, metrics, 300)
    assert set(changes) == {"DeadLettersAlarm"}
    first, well, second, well_again = changes["DeadLettersAlarm"]
    assert 100 < first <= 102 + late
    assert first < well <= 122
    assert 200 < second <= 202 + late
    assert well_again <= 222


@pytest.mark.parametrize("queue", LETTERS)
def test_letters_that_are_looked_at_redriven_or_purged_do_not_ring(queue: str) -> None:
    metrics = Metrics()
    letters(metrics, queue, range(100, 130), 3)
    letters(metrics, queue, range(130, 131), 0, taken=3)
    letters(metrics, queue, range(131, 160), 3)
    letters(metrics, queue, range(160, 162), 1)
    letters(metrics, queue, range(162, 200), 0)
    assert len(states(ALARMS, metrics, 200)["DeadLettersAlarm"]) == 2, "the arrival of the three, and its end"


@pytest.mark.parametrize("queue", LETTERS)
def test_a_letter_that_sqs_only_believes_to_be_taken_does_not_ring(queue: str) -> None:
    """Seen by others: its number of messages in flight is 1 at times where there is none."""
    metrics = Metrics()
    for minutes, taken in ((range(50), 0), (range(50, 53), 1), (range(53, 100), 0)):
        letters(metrics, queue, minutes, 0, taken=taken)
    assert states(ALARMS, metrics, 100) == {}


def test_what_is_refused_rings_at_once_on_a_quiet_bucket() -> None:
    refusal = Trouble(side=Side.DESTINATION, kind="refused", code="DstPutObjectNotPermitted")
    changes = Life(TEN_A_DAY, refusal, until=11, begins=10).pass_(40).changes()
    assert set(changes) == {"FailuresAlarm"}, "the letter itself is SQS's to tell"
    assert changes["FailuresAlarm"][0] == 11


@pytest.mark.parametrize(
    ("deletes", "rings"),
    [(300, {"1000": True, "0": True, "100000": False}), (150, {"1000": False, "0": False})],
    ids=["300", "150"],
)
def test_a_sudden_mass_delete_rings(deletes: int, rings: dict[str, bool]) -> None:
    """Here no brake holds it: what it lets through, or is released, is told all the same."""
    life = Life(TEN_A_DAY, until=1)
    deployment = life.deployment
    for number in range(deletes):
        deployment.put("dummy", f"key-{number}", b"data")
    life.pass_(10)
    for key in list(deployment.sources["dummy"]._states):
        deployment.sources["dummy"].delete(key)
        deployment.tell("dummy", key, "ObjectRemoved:Delete")
    life.pass_(10)
    assert not deployment.destinations[COPIES]._objects
    for limit, expected in rings.items():
        alarms = Stack(DeletesLimit=limit).of_type("AWS::CloudWatch::Alarm")
        changes = states({name: Alarm(properties) for name, properties in alarms.items()}, life.metrics, 20)
        assert set(changes) == ({"DeletesAlarm"} if expected else set()), f"a limit of {limit}"
        assert all(10 < changed[0] <= 12 for changed in changes.values())


@pytest.mark.parametrize(("gigabytes", "rings"), [(4.0, False), (4.4, True)])
def test_more_egress_in_a_day_than_is_allowed_rings(gigabytes: float, rings: bool) -> None:  # noqa: FBT001 - a case
    metrics = Metrics()
    for hour in range(24):
        reported(metrics, hour * 60, [of_bytes(round(gigabytes * 1e9))])
    now = 24 * 60 * MINUTE
    assert ALARMS["EgressAlarm"].rings(metrics, now) is rings
    assert not ALARMS["EgressAlarm"].rings(metrics, now + 6 * 3600), "a day's bytes are those of 24 hours"


def test_no_limit_of_egress_is_no_alarm() -> None:
    assert "EgressAlarm" not in Stack().of_type("AWS::CloudWatch::Alarm")


def test_a_message_that_crashes_the_function_rings_on_a_quiet_bucket() -> None:
    """It comes back after 2.5 to 7.5 minutes, or after the visibility timeout of 13."""
    metrics = Metrics()
    for minute in (10, 23):
        function = {"FunctionName": "ReplicatorFunction"}
        metrics.add(minute * MINUTE, namespace="AWS/Lambda", name="Errors", dimensions=function, values=[1.0])
    assert set(states(ALARMS, metrics, 60)) == {"ErrorsAlarm"}


def test_an_alarm_covers_all_rules_of_the_bucket() -> None:
    metrics = Metrics()
    several = [
        replace(of_bytes(50 * 10**9), outcomes=(replace(of_bytes(51 * 10**9).outcomes[0], rule=rule),))
        for rule in (Rule(id=name, source="dummy", destination=COPIES) for name in ("one", "two"))
    ]
    reported(metrics, 60, several)
    assert ALARMS["EgressAlarm"].rings(metrics, 62 * MINUTE)
