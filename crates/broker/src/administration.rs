//! What an administrator does to a running broker: policies, limits, permissions, parameters. Every
//! verb but for tracing answers the commit point at which the change is durable; it is in force at
//! once.

use leveret_access::grant::TopicPermission;
use leveret_access::limits::{UserLimits, VhostLimits};
use leveret_access::users::User;
use leveret_message::Timestamp;
use leveret_message::error::DefinitionError;
use leveret_settings::policy::{Policy, PolicyError, PolicyKind, PolicySpec};
use leveret_store_api::CommitPoint;

use crate::broker::Broker;
use crate::definitions::{
    Definition, LimitsDefinition, TopicPermissionDefinition, VhostDefinition,
};
use crate::events::Event;
use crate::parameters::Parameter;
use crate::vhost_metadata::VhostChanges;

impl Broker {
    /// Says something else of a virtual host; None: there is none of that name.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn change_vhost(
        &self,
        name: &str,
        changes: VhostChanges,
    ) -> Result<Option<CommitPoint>, DefinitionError> {
        let Some(vhost) = self.vhost(name) else {
            return Ok(None);
        };
        // Of two changes the later one is stored later.
        let mut current = vhost.metadata.write();
        let mut metadata = current.clone();
        metadata.change(changes);
        if *current == metadata {
            return Ok(Some(self.services.definitions_point()));
        }
        let put = Definition::VirtualHost(VhostDefinition {
            name: name.to_owned(),
            metadata: metadata.clone(),
            leaves: false,
        });
        let put = put.put()?;
        *current = metadata;
        Ok(Some(self.services.stage_definitions(&mut vec![put])))
    }

    /// Adds or replaces a policy and applies it to the queues and exchanges there are.
    ///
    /// # Errors
    /// What is wrong with it, in RabbitMQ's words.
    pub fn set_policy(
        &self,
        kind: PolicyKind,
        spec: PolicySpec,
        now: Timestamp,
    ) -> Result<CommitPoint, PolicyError> {
        let vhost = self
            .vhost(&spec.vhost)
            .ok_or_else(|| PolicyError::NoVhost(spec.vhost.clone()))?;
        if vhost.has_policy(kind, &spec) {
            return Ok(self.services.definitions_point());
        }
        vhost.set_policy(kind, Policy::parse(kind, spec)?, now)
    }

    /// Removes a policy; a missing one is no error.
    pub fn delete_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
        now: Timestamp,
    ) -> CommitPoint {
        match self.vhost(vhost) {
            Some(vhost) => vhost.delete_policy(kind, name, now),
            None => self.services.definitions_point(),
        }
    }

    /// All policies of one kind.
    #[must_use]
    pub fn policies(&self, kind: PolicyKind) -> Vec<PolicySpec> {
        let vhosts = self.vhosts();
        vhosts
            .iter()
            .flat_map(|vhost| vhost.policies(kind))
            .collect()
    }

    /// Sets what limits a virtual host. What is open already stays.
    ///
    /// # Errors
    /// They cannot be stored.
    pub fn set_vhost_limits(
        &self,
        name: &str,
        limits: VhostLimits,
    ) -> Result<CommitPoint, DefinitionError> {
        let Some(vhost) = self.vhost(name) else {
            return Ok(self.services.definitions_point());
        };
        let definition = LimitsDefinition {
            vhost: name.to_owned(),
            limits,
        };
        let put = Definition::Limits(definition).put()?;
        {
            let mut current = vhost.limits.write();
            if *current == limits {
                return Ok(self.services.definitions_point());
            }
            *current = limits;
            // rabbitmq: told as a parameter and as what it means
            self.services
                .tell(|_| Event::vhost_limits_parameter(name, limits));
            self.services.tell(|_| Event::vhost_limits(name, limits));
        }
        Ok(self.services.stage_definitions(&mut vec![put]))
    }

    /// Has a copy of each message that is published or delivered in a virtual host go to its exchange
    /// `amq.rabbitmq.trace`, or no longer; false if there is no such virtual host. Nothing of it is
    /// stored: after a restart the configuration decides again.
    pub fn set_tracing(&self, vhost: &str, on: bool) -> bool {
        let found = self.vhost(vhost);
        if let Some(found) = &found
            && found.is_traced() != on
        {
            found.set_traced(on);
            tracing::info!(vhost, on, "tracing of messages");
        }
        found.is_some()
    }

    /// What limits a virtual host.
    #[must_use]
    pub fn vhost_limits(&self, name: &str) -> VhostLimits {
        self.vhost(name)
            .map(|vhost| *vhost.limits.read())
            .unwrap_or_default()
    }

    /// Sets what limits a user. What is open already stays.
    ///
    /// # Errors
    /// They cannot be stored.
    pub fn set_user_limits(
        &self,
        name: &str,
        limits: UserLimits,
    ) -> Result<CommitPoint, DefinitionError> {
        match self.users.get(name) {
            Some(user) if user.limits != limits => self.put_user(User { limits, ..user }),
            _ => Ok(self.services.definitions_point()),
        }
    }

    /// Sets a user's topic permission on one exchange; running connections see it with their next
    /// publish or binding.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn permit_topics(
        &self,
        vhost: &str,
        user: &str,
        permission: TopicPermission,
    ) -> Result<CommitPoint, DefinitionError> {
        let definition = TopicPermissionDefinition {
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            permission: permission.clone(),
        };
        let put = Definition::TopicPermission(definition).put()?;
        self.users.permit_topics(vhost, user, permission.clone());
        if let Some(vhost) = self.vhost(vhost) {
            vhost.routes_changed();
        }
        self.services
            .tell(|_| Event::topic_permission_created(vhost, user, &permission));
        Ok(self.services.stage_definitions(&mut vec![put]))
    }

    /// Keeps a parameter that means nothing to this broker.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn set_parameter(&self, parameter: Parameter) -> Result<CommitPoint, DefinitionError> {
        let put = Definition::Parameter(parameter.clone()).put()?;
        if !self.parameters.keep(parameter.clone()) {
            return Ok(self.services.definitions_point());
        }
        self.services.tell(|_| Event::parameter_set(&parameter));
        Ok(self.services.stage_definitions(&mut vec![put]))
    }

    /// The parameters that are only kept, global ones first.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        self.parameters.all()
    }
}
