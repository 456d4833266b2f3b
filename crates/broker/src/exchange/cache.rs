//! `x-message-deduplication`: a cache of keys, as the community plugin has it. Keys are kept and looked for behind the
//! exchange's gate, with those of a window; of its own the type has the rules.

use leveret_deduplication::CacheRules;
use leveret_routing::ExchangeKind;

use super::keeper::{Keeper, KeeperType};
use super::logs::ExchangeLogs;

pub(super) static MESSAGE_DEDUPLICATION: KeeperType = KeeperType {
    kind: ExchangeKind::MessageDeduplication,
    check: |exchange| CacheRules::parse(&exchange.arguments).map(drop),
    // Every durable exchange has logs for keys.
    logs: |_, _| ExchangeLogs::default(),
    keeper: |exchange, _, _| {
        let rules = CacheRules::parse(&exchange.arguments).ok()?;
        Some(Box::new(Cache(rules)))
    },
};

struct Cache(CacheRules);

impl Keeper for Cache {
    fn cache(&self) -> Option<CacheRules> {
        Some(self.0)
    }
}
