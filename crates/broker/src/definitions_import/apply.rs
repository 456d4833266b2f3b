//! Carrying a checked plan out, in the order in which things depend on each other.

use leveret_access::password::{self, HashingAlgorithm};
use leveret_access::users::User;
use leveret_message::Timestamp;
use leveret_queue::queue::identity::SessionId;
use leveret_store_api::CommitPoint;

use super::{ForUser, ImportError, InVhost, Located, Plan, UserPlan};
use crate::broker::Broker;
use crate::events::INTERNAL_USER;

/// No session has this number.
const NOBODY: SessionId = SessionId(0);

impl Broker {
    /// Makes or changes everything a plan asks for; answers when it is durable. What is there and not
    /// in the plan stays, and so do queues and exchanges that differ from it.
    ///
    /// # Errors
    /// What does not fit, and where it stands in the file; then nothing has been changed.
    pub fn import(&self, plan: &Plan, now: Timestamp) -> Result<CommitPoint, ImportError> {
        plan.check(self)?;
        let users = plan
            .users
            .iter()
            .map(|it| Ok((it, self.hashed(it)?)))
            .collect::<Result<Vec<_>, ImportError>>()?;
        for vhost in &plan.vhosts {
            if self.vhost(&vhost.it).is_none() {
                self.create_vhost(&vhost.it)
                    .map_err(|error| vhost.error(error))?;
            }
        }
        for vhost in &plan.metadata {
            let InVhost { vhost: name, it } = &vhost.it;
            self.change_vhost(name, it.clone())
                .map_err(|error| vhost.error(error))?;
        }
        for (vhost, traced) in &plan.traced {
            self.set_tracing(vhost, *traced);
        }
        for (placed, user) in users {
            if self.users.get(&user.name).as_ref() != Some(&user) {
                self.put_user(user).map_err(|error| placed.error(error))?;
            }
        }
        self.import_permissions(plan)?;
        self.import_parameters(plan, now)?;
        self.import_topology(plan, now)?;
        Ok(self.services.definitions_point())
    }

    /// The user with a hash for the password in the clear; the present hash if it is of this password.
    fn hashed(&self, placed: &Located<UserPlan>) -> Result<User, ImportError> {
        let UserPlan { user, password } = &placed.it;
        let mut user = user.clone();
        if let Some(password) = password.as_ref().filter(|it| !it.is_empty()) {
            let known = self.users.get(&user.name).filter(|known| {
                password::matches(
                    password.as_bytes(),
                    &known.password_hash,
                    &known.hashing_algorithm,
                )
            });
            (user.password_hash, user.hashing_algorithm) = match known {
                Some(known) => (known.password_hash, known.hashing_algorithm),
                None => {
                    let hash = password::hash_salted(password.as_bytes());
                    let hash = hash.map_err(|reason| {
                        placed.error(format_args!("the system gives no random numbers: {reason}"))
                    })?;
                    (hash, HashingAlgorithm::default())
                }
            };
        }
        Ok(user)
    }

    fn import_permissions(&self, plan: &Plan) -> Result<(), ImportError> {
        for placed in &plan.permissions {
            let InVhost { vhost, it } = &placed.it;
            let ForUser { user, it } = it;
            if self.users.permission(vhost, user).as_ref() != Some(it) {
                self.permit(vhost, user, it.clone())
                    .map_err(|error| placed.error(error))?;
            }
        }
        for placed in &plan.topic_permissions {
            let InVhost { vhost, it } = &placed.it;
            let ForUser { user, it } = it;
            if !self.users.topic_permissions(vhost, user).contains(it) {
                self.permit_topics(vhost, user, it.clone())
                    .map_err(|error| placed.error(error))?;
            }
        }
        Ok(())
    }

    fn import_parameters(&self, plan: &Plan, now: Timestamp) -> Result<(), ImportError> {
        for it in &plan.limits {
            self.set_vhost_limits(&it.it.vhost, it.it.it)
                .map_err(|error| it.error(error))?;
        }
        for it in &plan.parameters {
            self.set_parameter(it.it.clone())
                .map_err(|error| it.error(error))?;
        }
        for placed in &plan.policies {
            let (kind, spec) = &placed.it;
            self.set_policy(*kind, spec.clone(), now)
                .map_err(|error| placed.error(error))?;
        }
        Ok(())
    }

    /// rabbitmq: what exists with other properties is left as it is, and a binding to what does not
    /// exist (an exclusive queue, say) is passed over
    fn import_topology(&self, plan: &Plan, now: Timestamp) -> Result<(), ImportError> {
        for placed in &plan.exchanges {
            if let Some(vhost) = self.vhost(&placed.it.vhost)
                && let Err(error) =
                    vhost.declare_exchange(placed.it.it.clone(), INTERNAL_USER, |_| Ok(()))
            {
                let error = error.text();
                tracing::warn!(place = placed.place, error, "exchange left as it is");
            }
        }
        for placed in &plan.queues {
            if let Some(vhost) = self.vhost(&placed.it.vhost)
                && let Err(error) = vhost.declare_queue(
                    placed.it.it.clone(),
                    NOBODY,
                    INTERNAL_USER,
                    now,
                    |_| Ok(()),
                )
            {
                let error = error.text();
                tracing::warn!(place = placed.place, error, "queue left as it is");
            }
        }
        for placed in &plan.bindings {
            let Some(vhost) = self.vhost(&placed.it.vhost) else {
                continue;
            };
            let queue = |name: &str| vhost.queue(name).ok().map(|queue| queue.id());
            let binding = placed.it.it.resolve(&vhost.topology.read(), queue);
            match binding.map(|binding| {
                vhost
                    .bind(binding, INTERNAL_USER)
                    .and_then(|bound| bound.finish(now))
            }) {
                None => tracing::warn!(
                    place = placed.place,
                    source = placed.it.it.source,
                    destination = placed.it.it.destination,
                    "binding passed over: an end does not exist"
                ),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(placed.error(error.text())),
            }
        }
        Ok(())
    }
}
