//! Which faults each check has to find.

use crate::fault::Alteration::*;
use crate::fault::Fault::{self, *};
use anybroker::adapter::Start;

/// The faults that the check has to find.
pub(crate) fn faults(check: &str) -> &'static [Fault] {
    TABLE.iter().find(|(name, _)| *name == check).map_or(&[], |(_, faults)| *faults)
}

/// All checks of the table.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

const TABLE: &[(&str, &[Fault])] = &[
    ("fidelity/payload-bytes", &[Alters(ReadsPayloadsAsText), Alters(CutsPayloads), Alters(EmptyIsAbsent), DuplicatesOne]),
    ("fidelity/payload-at-the-limit", &[Alters(CutsPayloads)]),
    (
        "fidelity/every-field",
        &[
            Alters(ForgetsId), Alters(ForgetsTime), Alters(ForgetsKind), Alters(ForgetsType), Alters(ForgetsKey),
            Alters(ForgetsCorrelationId), Alters(ForgetsReplyTo), Alters(ForgetsContentType), Alters(ForgetsExpiry),
            Alters(ForgetsHeaders),
        ],
    ),
    ("fidelity/absent-fields", &[Alters(MakesIds)]),
    ("fidelity/ids-of-callers", &[Alters(LowersIds), Alters(ForgetsId)]),
    ("fidelity/keys", &[Alters(ReadsKeysAsText)]),
    ("fidelity/times", &[Alters(RoundsTimes)]),
    ("fidelity/header-text", &[Alters(TrimsHeaders), Alters(CutsLongHeaders)]),
    ("fidelity/header-order", &[Alters(SortsHeaders), Alters(JoinsRepeatedHeaders)]),
    ("fidelity/header-absent-value", &[Alters(EmptyForAbsentHeaders)]),
    ("fidelity/header-hostile", &[Alters(StripsLineBreaks)]),
    ("fidelity/header-named-like-a-field", &[Alters(EatsReservedHeaders)]),
    ("point-to-point/one-consumer", &[LosesOne, DuplicatesOne, Overfills]),
    ("point-to-point/competing-consumers", &[LosesOne, DuplicatesOne, Hoards]),
    ("point-to-point/waits-for-a-consumer", &[DropsUnheard, RefusesUnheard]),
    ("point-to-point/goes-on-after-close", &[CloseAcks, AckIsNoOp]),
    ("point-to-point/channels-do-not-mix", &[ShortNames]),
    ("publish-subscribe/every-subscription-gets-all", &[OneSubscription, LosesOne, DuplicatesOne]),
    ("publish-subscribe/competing-consumers-share", &[PrivateSubscriptions]),
    ("publish-subscribe/named-keeps-while-away", &[NamedVanishes]),
    ("publish-subscribe/start-is-fixed-at-open", &[SubscribesLate, AcksOnReceipt]),
    ("publish-subscribe/ephemeral-get-all", &[EphemeralLasts, LosesOne]),
    ("publish-subscribe/ephemeral-vanish", &[EphemeralLasts]),
    ("publish-subscribe/nobody-subscribed", &[RefusesUnheard]),
    ("publish-subscribe/starts-with-the-next", &[StartsAt(Start::Earliest)]),
    ("publish-subscribe/starts-with-the-oldest", &[StartsAt(Start::Latest)]),
    ("publish-subscribe/starts-at-a-time", &[StartsAt(Start::Latest), StartsAt(Start::Earliest)]),
    ("publish-subscribe/start-is-asked-once", &[PrivateSubscriptions]),
    ("order/one-consumer", &[SwapsTwoOfAKey, LosesOne]),
    ("order/per-key-competing", &[SwapsTwoOfAKey, Unordered]),
    ("order/released-in-place", &[ReleaseRequeues, SwapsTwoOfAKey]),
    ("order/unsettled-in-place", &[CloseRequeues, CloseAcks]),
    ("order/after-a-crash-in-place", &[AcksOnReceipt]),
    ("settlement/ack-never-returns", &[AckIsNoOp]),
    ("settlement/out-of-order", &[AckIsCumulative]),
    ("settlement/unsettled-returns-after-close", &[CloseAcks, AcksOnReceipt]),
    ("settlement/unsettled-returns-after-drop", &[AcksOnReceipt]),
    ("settlement/unsettled-returns-after-disconnect", &[AcksOnReceipt, HangsWhenDead]),
    ("settlement/attempts-are-counted", &[AttemptsStuck]),
    ("settlement/release-is-not-counted", &[ReleaseCounts, AcksOnReceipt]),
    ("settlement/held-is-kept", &[HeldComesAgain, HeldForgetsToken, AcksOnReceipt]),
    ("settlement/broker-retry-waits", &[RetryAtOnce, RetryAcks, AttemptsStuck]),
    ("settlement/settles-after-stop", &[StopEndsSettling, IgnoresStop]),
    ("settlement/after-close-is-an-error", &[SettlesAlways, SettlesSilently]),
    ("foreign/tombstone", &[Alters(AbsentIsEmpty)]),
    ("foreign/empty-is-no-tombstone", &[Alters(EmptyIsAbsent)]),
    ("foreign/without-our-fields", &[DropsForeign]),
    ("foreign/undecodable", &[UndecodableIsFatal, UndecodableIsDropped]),
    ("limits/measure-counts-every-field", &[MeasuresPayloadOnly]),
    ("limits/whole-batches", &[CutsBatches, ShortConfirm]),
    ("limits/no-more-than-asked-for", &[Overfills, Hoards]),
    ("limits/bounded", &[Unbounded]),
    ("lifecycle/health", &[AlwaysHealthy, NeverHealthy]),
    ("lifecycle/close-is-idempotent", &[CloseOnce]),
    ("lifecycle/use-after-close", &[CloseIsNoOp]),
    ("lifecycle/handles-end-with-their-connection", &[CloseIsNoOp, AcceptsWhenDead, HangsWhenDead]),
    ("lifecycle/stop-ends-receiving", &[IgnoresStop]),
    ("lifecycle/sender-close-flushes", &[CloseDropsSends]),
    ("lifecycle/missing-is-not-found", &[OpensMissing, VerifyMakes]),
    ("lifecycle/declare-twice", &[DeclareEmpties, DeclareOnce]),
    ("lifecycle/declare-differently", &[NeverConflicts]),
    ("lifecycle/verify-makes-nothing", &[VerifyMakes]),
    ("lifecycle/delete", &[DeleteIsNoOp, DeleteOnce]),
    ("lifecycle/a-thousand-opens", &[LeaksTasks, LeaksReceivers]),
    ("failure/cut-ends-every-handle", &[HangsWhenDead, AcceptsWhenDead, SettlesAlways]),
    ("failure/cut-answers-every-send", &[HangsWhenDead, AcceptsWhenDead, ReportsUnknownAsNotSent]),
    ("failure/cut-returns-the-unsettled", &[AcksOnReceipt]),
    ("failure/killed-client", &[AcksOnReceipt]),
    ("request-reply/addresses-are-private", &[MixesReplies]),
    ("request-reply/address-ends-with-its-owner", &[MixesReplies, HangsOnGoneAddress]),
    ("request-reply/answers-no-foreign-address", &[AnswersAnybody]),
    ("capabilities/every-declared-one-is-exercised", &[DeclaresInPart]),
    ("capabilities/effective-within-declared", &[Overclaims]),
    ("capabilities/receipts-keep-the-level", &[LowReceipts]),
];
