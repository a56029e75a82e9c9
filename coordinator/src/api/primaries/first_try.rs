//! What an earlier try of a switchover came to. What a retry would ask for follows from a state that has moved on since, so the
//! first answer is looked up before that (I9).

use prost::Message as _;
use proto::v1 as pb;
use state::{ControlState, Feature, Rejection, Reply};
use tonic::Status;
use types::{Digest, Epoch, PlanId, Principal, RegionId, RequestId, RoleName};

use super::{not_a_plan, status};

/// A switchover that is asked for, maybe again.
pub(super) struct FirstTry<'a> {
    pub(super) request: RequestId,
    pub(super) caller: &'a Principal,
    pub(super) role: &'a RoleName,
    pub(super) region: &'a RegionId,
    pub(super) asked: &'a pb::SwitchoverRequest,
}

impl FirstTry<'_> {
    /// What its entry tells of what was asked, whatever follows from it: all of the request but its id, and whether it is only to be
    /// validated. None below the level from which on entries tell.
    pub(super) fn digest(&self, state: &ControlState) -> Option<Digest> {
        let asked = pb::SwitchoverRequest {
            request_id: String::new(),
            validate_only: false,
            ..self.asked.clone()
        };
        let tells = state.features().has(Feature::Expectations);
        tells.then(|| Digest::of(&asked.encode_to_vec()))
    }

    /// The plan that the request began already, or why it began none.
    pub(super) fn answer(&self, state: &ControlState) -> Option<Result<PlanId, Status>> {
        let Some(asked) = self.digest(state) else {
            return self.began(state).map(Ok);
        };
        Some(match state.answer_to(self.request, self.caller, asked)? {
            Ok(Reply::Plan { plan }) => Ok(plan),
            Ok(other) => Err(not_a_plan(&other)),
            Err(refused @ Rejection::RequestReused { .. }) => {
                // The level may have risen between two tries of one request.
                let began = self.began_below(state);
                began.ok_or_else(|| status(refused.to_refusal()))
            }
            Err(refused) => Err(status(refused.to_refusal())),
        })
    }

    /// The same below the level, by what the plan tells.
    fn began(&self, state: &ControlState) -> Option<PlanId> {
        let Some(Ok(Reply::Plan { plan })) = state.first_answer(self.request) else {
            return None;
        };
        let record = state.plan(plan)?;
        let is_it = record.created_by == *self.caller
            && record.role == *self.role
            && record.target.region == *self.region;
        is_it.then_some(plan)
    }

    /// The plan that an entry from below the level began. It had no etag: those came with the level.
    fn began_below(&self, state: &ControlState) -> Option<PlanId> {
        let plan = state.plan_of_untold(self.request, self.caller)?;
        let epoch = self.asked.expected_epoch;
        let same_epoch = epoch == 0 || Epoch::from_u64(epoch) == plan.from_epoch;
        let is_it = same_epoch && self.asked.etag.is_empty() && plan.role == *self.role;
        (is_it && plan.target.region == *self.region).then_some(plan.plan)
    }
}

#[cfg(test)]
mod tests {
    use state::{Command, Entry, Expects};
    use types::{
        ClusterId, Holder, NodeIncarnation, UnixMillis,
        plan::PlanKind,
        region::{Endpoints, Health, NodeKind},
        role::TimingPolicy,
    };

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn user(name: &str) -> Principal {
        format!("spiffe://regent.local/user/{name}").parse().unwrap()
    }

    fn request(n: u128) -> RequestId {
        RequestId::v7_from_parts(NOW, n)
    }

    fn apply(
        state: &mut ControlState,
        request_id: RequestId,
        command: Command,
        asked: Option<Digest>,
    ) -> Reply {
        let entry = Entry {
            proposed_at: UnixMillis(NOW),
            request_id,
            actor: user("admin"),
            command,
            expects: Expects {
                asked,
                ..Expects::default()
            },
        };
        state.apply(state.revision().next(), &entry).outcome.unwrap()
    }

    /// A region whose agent can take the role; nobody holds it.
    fn world() -> ControlState {
        let mut state = ControlState::new();
        let region: RegionId = "r2".parse().unwrap();
        let founding = [
            Command::InitCluster {
                cluster_id: ClusterId::from_u128(1),
                generation: 1,
                timing: TimingPolicy::fast(),
            },
            Command::RegisterRegion {
                region: region.clone(),
            },
            Command::RegisterNode {
                node: "a2".parse().unwrap(),
                region: region.clone(),
                kind: NodeKind::Agent,
                incarnation: NodeIncarnation::from_u128(2),
                endpoints: Endpoints::default(),
                zone: None,
            },
            Command::SetRegionHealth {
                region,
                from: Health::Recovering,
                to: Health::Healthy,
                evidence: String::new(),
            },
        ];
        for (n, command) in founding.into_iter().enumerate() {
            apply(&mut state, request(n as u128), command, None);
        }
        state
    }

    fn raise(state: &mut ControlState) {
        let level = Feature::Expectations.level();
        apply(state, request(100), Command::SetFeatureLevel { level }, None);
    }

    fn begin(state: &mut ControlState, id: RequestId, asked: Option<Digest>) -> PlanId {
        let role = state.role(&RoleName::global()).unwrap();
        let command = Command::StartPlan {
            role: role.role.clone(),
            kind: PlanKind::Assign,
            target: Holder {
                region: "r2".parse().unwrap(),
                node: "a2".parse().unwrap(),
                incarnation: NodeIncarnation::from_u128(2),
            },
            trigger: "asked for by a person".to_owned(),
            expected_epoch: role.epoch,
        };
        match apply(state, id, command, asked) {
            Reply::Plan { plan } => plan,
            other => panic!("{other:?}"),
        }
    }

    /// What a try of this request is answered: a plan, or a reason; none, and it is proposed.
    fn told(state: &ControlState, by: &str, asked: &pb::SwitchoverRequest) -> Option<Result<PlanId, String>> {
        let (role, region) = (asked.role.parse().unwrap(), asked.to_region.parse().unwrap());
        let first = FirstTry {
            request: request(200),
            caller: &user(by),
            role: &role,
            region: &region,
            asked,
        };
        let answer = first.answer(state)?;
        Some(answer.map_err(|refused| refused.message().to_owned()))
    }

    fn asked() -> pb::SwitchoverRequest {
        pb::SwitchoverRequest {
            role: "primaries/global".to_owned(),
            to_region: "r2".to_owned(),
            ..pb::SwitchoverRequest::default()
        }
    }

    #[test]
    fn a_retry_gets_its_plan_also_where_the_level_rose_between() {
        let mut state = world();
        assert_eq!(told(&state, "admin", &asked()), None);
        let epoch = state.role(&RoleName::global()).unwrap().epoch.as_u64();
        let plan = begin(&mut state, request(200), None);
        let same_epoch = pb::SwitchoverRequest {
            expected_epoch: epoch,
            ..asked()
        };
        for risen in [false, true] {
            if risen {
                raise(&mut state);
            }
            for asked in [&asked(), &same_epoch] {
                assert_eq!(told(&state, "admin", asked), Some(Ok(plan)), "{risen} {asked:?}");
            }
        }
        let others = [
            pb::SwitchoverRequest {
                to_region: "r3".to_owned(),
                ..asked()
            },
            pb::SwitchoverRequest {
                role: "primaries/db".to_owned(),
                ..asked()
            },
            pb::SwitchoverRequest {
                etag: "5".to_owned(),
                ..asked()
            },
            pb::SwitchoverRequest {
                expected_epoch: epoch + 1,
                ..asked()
            },
        ];
        let is_reused = |told: Option<Result<PlanId, String>>| {
            told.is_some_and(|told| told.is_err_and(|why| why.contains("was used before")))
        };
        for other in others {
            assert!(is_reused(told(&state, "admin", &other)), "{other:?}");
        }
        assert!(is_reused(told(&state, "mallory", &asked())));
    }

    /// At the level the entry tells what was asked, and nothing else is taken for it.
    #[test]
    fn a_plan_that_was_begun_at_the_level_is_for_what_was_asked_alone() {
        let mut state = world();
        raise(&mut state);
        let with_etag = pb::SwitchoverRequest {
            etag: "5".to_owned(),
            ..asked()
        };
        let digest = FirstTry {
            request: request(200),
            caller: &user("admin"),
            role: &RoleName::global(),
            region: &"r2".parse().unwrap(),
            asked: &with_etag,
        }
        .digest(&state);
        let plan = begin(&mut state, request(200), digest);
        assert_eq!(told(&state, "admin", &with_etag), Some(Ok(plan)));
        assert!(told(&state, "admin", &asked()).unwrap().is_err());
    }
}
