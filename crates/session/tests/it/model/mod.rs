//! A queue agrees with a simple model of it, whatever happens to it and however little memory it has.
//!
//! Which of several consumers gets a message is left open here; that consumers take turns is tested
//! elsewhere. Everything else must be as the model says: which messages are delivered, in which order,
//! with which marks, that nobody waits in front of a message, and which go to the dead-letter queue and
//! why.

mod checks;
mod options;
mod queue;
mod steps;
mod trial;

use proptest::collection::vec;
use proptest::prelude::*;

use options::options;
use steps::step;
use trial::Trial;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_agrees_with_its_model(options in options(), steps in vec(step(), 1..60)) {
        let mut trial = Trial::new(options);
        for step in &steps {
            trial.run(step);
        }
    }
}
