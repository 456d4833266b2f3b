//! From JSON to a [`Plan`]: the form of every entry, each on its own.

use leveret_access::excerpt::excerpt;
use leveret_access::grant::TopicPermission;
use leveret_access::limits::{UserLimits, VhostLimits};
use leveret_access::password::{self, HashingAlgorithm};
use leveret_access::pattern::Pattern;
use leveret_access::permission::Permission;
use leveret_access::users::User;
use leveret_message::arguments::{argument, text};
use leveret_queue::queue::kind::QueueKind;
use leveret_routing::{Exchange, ExchangeKind};
use leveret_settings::policy::{ApplyTo, Policy, PolicyKind, PolicySpec};

use super::node::Node;
use super::{
    BindingPlan, ForUser, ImportError, InVhost, Located, LocatedInVhost, Plan, UserPlan, json,
};
use crate::broker::DEFAULT_VHOST;
use crate::declare::QueueDeclaration;
use crate::exchange::check as check_exchange;
use crate::parameters::Parameter;
use crate::vhost_metadata::VhostChanges;

impl Plan {
    /// Reads a definitions file. Entries it does not know are passed over.
    ///
    /// # Errors
    /// The first thing that is wrong, and where it is.
    pub fn parse(json: &[u8]) -> Result<Plan, ImportError> {
        let document = json::parse(json)?;
        let root = Node::root(&document);
        let mut plan = Plan::default();
        for node in root.list("vhosts")? {
            let name = node.required("name")?.name()?;
            if node.field("tracing")?.is_some() {
                let traced = node.flag_or("tracing", false)?;
                plan.traced.push((name.clone(), traced));
            }
            let changes = vhost_changes(&node)?;
            if changes != VhostChanges::default() {
                plan.metadata.push(Located {
                    place: node.place().to_owned(),
                    it: InVhost {
                        vhost: name.clone(),
                        it: changes,
                    },
                });
            }
            plan.vhosts.push(Located {
                place: node.place().to_owned(),
                it: name,
            });
        }
        let hashing = default_hashing(&root)?;
        plan.users = each(&root, "users", |node| user(node, &hashing))?;
        plan.permissions = each_in_vhost(&root, "permissions", permission)?;
        plan.topic_permissions = each_in_vhost(&root, "topic_permissions", topic_permission)?;
        plan.policies = each(&root, "policies", |node| {
            let vhost = vhost(node)?;
            policy(PolicyKind::User, node, node, vhost)
        })?;
        for node in root.list("parameters")? {
            plan.parameter(&node)?;
        }
        for node in root.list("global_parameters")? {
            plan.keep(&node, None, String::new())?;
        }
        plan.exchanges = each_in_vhost(&root, "exchanges", exchange)?;
        plan.exchanges.retain(|it| !is_predeclared(&it.it.it.name));
        plan.queues = each_in_vhost(&root, "queues", queue)?;
        plan.queues.retain(|it| !is_predeclared(&it.it.it.name));
        plan.bindings = each_in_vhost(&root, "bindings", binding)?;
        plan.bindings.retain(|it| !it.it.it.source.is_empty());
        Ok(plan)
    }

    fn parameter(&mut self, node: &Node<'_>) -> Result<(), ImportError> {
        let vhost = vhost(node)?;
        let component = node.required("component")?.text()?;
        let value = node.required("value")?;
        let kind = match component {
            "policy" => PolicyKind::User,
            "operator_policy" => PolicyKind::Operator,
            "vhost-limits" => {
                // rabbitmq: without any limit they are an empty list
                let limits = if value.is_empty_list() {
                    VhostLimits::default()
                } else {
                    VhostLimits {
                        max_connections: value.limit("max-connections")?,
                        max_queues: value.limit("max-queues")?,
                    }
                };
                self.limits.push(Located {
                    place: value.place().to_owned(),
                    it: InVhost { vhost, it: limits },
                });
                return Ok(());
            }
            other => return self.keep(node, Some(vhost), other.to_owned()),
        };
        let it = policy(kind, node, &value, vhost)?;
        self.policies.push(Located {
            place: node.place().to_owned(),
            it,
        });
        Ok(())
    }

    fn keep(
        &mut self,
        node: &Node<'_>,
        vhost: Option<String>,
        component: String,
    ) -> Result<(), ImportError> {
        let it = Parameter {
            vhost,
            component,
            name: node.required("name")?.name()?,
            value: node.required("value")?.value().clone(),
        };
        self.parameters.push(Located {
            place: node.place().to_owned(),
            it,
        });
        Ok(())
    }
}

fn each<T>(
    root: &Node<'_>,
    list: &str,
    read: impl Fn(&Node<'_>) -> Result<T, ImportError>,
) -> Result<Vec<Located<T>>, ImportError> {
    let nodes = root.list(list)?;
    let placed = nodes.iter().map(|node| {
        Ok(Located {
            place: node.place().to_owned(),
            it: read(node)?,
        })
    });
    placed.collect()
}

fn each_in_vhost<T>(
    root: &Node<'_>,
    list: &str,
    read: impl Fn(&Node<'_>) -> Result<T, ImportError>,
) -> Result<Vec<LocatedInVhost<T>>, ImportError> {
    each(root, list, |node| {
        Ok(InVhost {
            vhost: vhost(node)?,
            it: read(node)?,
        })
    })
}

/// rabbitmq: skipped on import, since they are there anyhow or cannot be made by anybody
fn is_predeclared(name: &str) -> bool {
    name.is_empty() || name.starts_with("amq.")
}

/// A small file need not repeat the default virtual host's name.
fn vhost(node: &Node<'_>) -> Result<String, ImportError> {
    match node.field("vhost")? {
        Some(vhost) => vhost.name(),
        None => Ok(DEFAULT_VHOST.to_owned()),
    }
}

/// rabbitmq: in its metadata since 3.12, beside its name before
fn vhost_field<'a>(node: &Node<'a>, name: &str) -> Result<Option<Node<'a>>, ImportError> {
    let beside = node.field(name)?;
    let metadata = node.field("metadata")?;
    let metadata = metadata.filter(|it| it.value().is_object());
    let inside = match metadata {
        Some(metadata) => metadata.field(name)?,
        None => None,
    };
    Ok(inside.or(beside))
}

/// What is said of a virtual host.
fn vhost_changes(node: &Node<'_>) -> Result<VhostChanges, ImportError> {
    let description = vhost_field(node, "description")?;
    let description = description.map(|it| it.text().map(str::to_owned));
    let tags = vhost_field(node, "tags")?.map(|it| vhost_tags(&it));
    let protected = match vhost_field(node, "protected_from_deletion")? {
        Some(field) => Some(field.flag()?),
        None => None,
    };
    Ok(VhostChanges {
        description: description.transpose()?,
        tags: tags.transpose()?,
        default_queue_type: default_queue_type(node)?,
        protected_from_deletion: protected,
    })
}

/// A list, or a text with commas.
fn vhost_tags(field: &Node<'_>) -> Result<Vec<String>, ImportError> {
    if field.value().is_array() {
        let members = field.members()?;
        return members.iter().map(|it| Ok(it.text()?.to_owned())).collect();
    }
    let tags = field.text()?.split(',').map(str::trim);
    let tags = tags.filter(|tag| !tag.is_empty());
    Ok(tags.map(str::to_owned).collect())
}

/// rabbitmq: older ones say "undefined"
fn default_queue_type(node: &Node<'_>) -> Result<Option<QueueKind>, ImportError> {
    let Some(field) = vhost_field(node, "default_queue_type")? else {
        return Ok(None);
    };
    match field.text()? {
        "" | "undefined" => Ok(None),
        name => QueueKind::parse(name).map(Some).ok_or_else(|| {
            field.error(format_args!(
                "unknown queue type '{name}'; expected \"classic\", \"quorum\" or \"stream\""
            ))
        }),
    }
}

/// How hashes were made of which the file does not say it.
///
/// rabbitmq: with MD5 before 3.6, where it wrote no more than the hash
fn default_hashing(root: &Node<'_>) -> Result<HashingAlgorithm, ImportError> {
    let version = match root.field("rabbit_version")? {
        Some(version) => Some(version),
        None => root.field("rabbitmq_version")?,
    };
    let version = version.as_ref().and_then(|it| it.value().as_str());
    let mut numbers = version
        .unwrap_or_default()
        .split('.')
        .map(str::parse::<u32>);
    Ok(match (numbers.next(), numbers.next()) {
        (Some(Ok(0..=2)), _) | (Some(Ok(3)), Some(Ok(0..=5))) => HashingAlgorithm::Md5,
        _ => HashingAlgorithm::default(),
    })
}

fn user(node: &Node<'_>, hashing: &HashingAlgorithm) -> Result<UserPlan, ImportError> {
    let hashing_algorithm = match node.field("hashing_algorithm")? {
        None => hashing.clone(),
        Some(field) => HashingAlgorithm::from(field.text()?.to_owned()),
    };
    // rabbitmq: white space in it is passed over
    let mut password_hash = node.text_or("password_hash", "")?;
    password_hash.retain(|letter| !letter.is_ascii_whitespace());
    if !password::is_base64(&password_hash) {
        return Err(node
            .required("password_hash")?
            .error("expected base64 of a 4-byte salt and its hash; a plain password goes into \"password\""));
    }
    if !password_hash.is_empty() && !password::is_hash(&password_hash, &hashing_algorithm) {
        tracing::warn!(
            place = node.place(),
            algorithm = String::from(hashing_algorithm.clone()),
            "nobody can log in as this user: no password has this hash"
        );
    }
    let password = node.field("password")?;
    let limits = match node.field("limits")? {
        Some(limits) if limits.value().is_object() => UserLimits {
            max_connections: limits.limit("max-connections")?,
            max_channels: limits.limit("max-channels")?,
        },
        _ => UserLimits::default(),
    };
    let user = User {
        name: node.required("name")?.name()?,
        password_hash,
        hashing_algorithm,
        tags: tags(node)?,
        limits,
    };
    let password = password
        .map(|field| field.text().map(str::to_owned))
        .transpose()?;
    Ok(UserPlan { user, password })
}

/// rabbitmq: older exports have the tags in one string with commas
fn tags(node: &Node<'_>) -> Result<Vec<String>, ImportError> {
    let Some(field) = node.field("tags")? else {
        return Ok(Vec::new());
    };
    if let Some(tags) = field.value().as_str() {
        let tags = tags.split(',').map(str::trim);
        return Ok(tags
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect());
    }
    let members = field.members()?;
    let tags = members.iter().map(|tag| tag.text().map(str::to_owned));
    tags.collect()
}

/// A regular expression.
fn pattern(node: &Node<'_>, name: &str) -> Result<String, ImportError> {
    let field = node.required(name)?;
    let expression = field.text()?;
    Pattern::new(expression).map_err(|reason| {
        field.error(format_args!(
            "'{}' is not a valid regular expression: {reason}",
            excerpt(expression)
        ))
    })?;
    Ok(expression.to_owned())
}

fn permission(node: &Node<'_>) -> Result<ForUser<Permission>, ImportError> {
    Ok(ForUser {
        user: node.required("user")?.name()?,
        it: Permission {
            configure: pattern(node, "configure")?,
            write: pattern(node, "write")?,
            read: pattern(node, "read")?,
        },
    })
}

fn topic_permission(node: &Node<'_>) -> Result<ForUser<TopicPermission>, ImportError> {
    let expression = |name: &str| {
        // Braces of a variable are no repetition: what is checked has a name in their place.
        let field = node.required(name)?;
        let expression = field.text()?;
        let expanded = expression
            .replace("{username}", "name")
            .replace("{vhost}", "name");
        Pattern::new(&expanded).map_err(|reason| {
            field.error(format_args!(
                "'{}' is not a valid regular expression: {reason}",
                excerpt(expression)
            ))
        })?;
        Ok(expression.to_owned())
    };
    Ok(ForUser {
        user: node.required("user")?.name()?,
        it: TopicPermission {
            exchange: node.required("exchange")?.name()?,
            write: expression("write")?,
            read: expression("read")?,
        },
    })
}

/// A policy named in `node`, the rest of it in `body`.
fn policy(
    kind: PolicyKind,
    node: &Node<'_>,
    body: &Node<'_>,
    vhost: String,
) -> Result<(PolicyKind, PolicySpec), ImportError> {
    let apply_to = match body.field("apply-to")? {
        None => ApplyTo::All,
        Some(field) => ApplyTo::parse(field.text()?).ok_or_else(|| {
            field.error(
                "unrecognised; should be one of: 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges', or 'all'",
            )
        })?,
    };
    let priority = match body.field("priority")? {
        None => 0,
        Some(field) => field.integer()?,
    };
    let spec = PolicySpec {
        vhost,
        name: node.required("name")?.name()?,
        pattern: body.required("pattern")?.text()?.to_owned(),
        apply_to,
        priority,
        definition: body.required("definition")?.object()?.clone(),
    };
    Policy::parse(kind, spec.clone()).map_err(|error| node.error(error))?;
    Ok((kind, spec))
}

fn exchange(node: &Node<'_>) -> Result<Exchange, ImportError> {
    let name = node.required("name")?.name()?;
    let kind = match node.field("type")? {
        None if is_predeclared(&name) => ExchangeKind::Direct,
        None => return Err(node.error("\"type\" is missing")),
        Some(field) => ExchangeKind::parse(field.text()?)
            .ok_or_else(|| field.error(format_args!("unknown exchange type {}", field.value())))?,
    };
    let arguments = node.arguments()?;
    let alternate = argument(&arguments, "alternate-exchange").and_then(text);
    let exchange = Exchange {
        name,
        kind,
        durable: node.flag_or("durable", true)?,
        auto_delete: node.flag_or("auto_delete", false)?,
        internal: node.flag_or("internal", false)?,
        arguments,
        alternate,
    };
    check_exchange(&exchange).map_err(|why| node.error(why))?;
    Ok(exchange)
}

/// rabbitmq: the type is an argument; what an export says beside the arguments means nothing
fn queue(node: &Node<'_>) -> Result<QueueDeclaration, ImportError> {
    Ok(QueueDeclaration {
        name: node.required("name")?.name()?,
        durable: node.flag_or("durable", true)?,
        exclusive: false,
        auto_delete: node.flag_or("auto_delete", false)?,
        arguments: node.arguments()?,
    })
}

fn binding(node: &Node<'_>) -> Result<BindingPlan, ImportError> {
    let to_exchange = match node.field("destination_type")? {
        None => false,
        Some(field) => match field.text()? {
            "queue" => false,
            "exchange" => true,
            _ => return Err(field.error("expected \"queue\" or \"exchange\"")),
        },
    };
    Ok(BindingPlan {
        source: node.required("source")?.name()?,
        destination: node.required("destination")?.name()?,
        to_exchange,
        routing_key: match node.field("routing_key")? {
            Some(key) => key.name()?,
            None => String::new(),
        },
        arguments: node.arguments()?,
    })
}
