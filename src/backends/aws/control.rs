//! Stores control records, the ledger and batches in DynamoDB, for any number of processes at a time.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use docweir_aws::DynamoOptions;
use docweir_aws::dynamo::Dynamo;
use docweir_aws_backend::batches::DynamoBatches;
use docweir_aws_backend::control::DynamoControlStore;
use docweir_aws_backend::dynamo_objects::DynamoObjects;
use docweir_aws_backend::ledger::DynamoLedger;
use docweir_core::clock::SharedClock;
use docweir_objects::ObjectStore;
use docweir_objects::lease::LeaseRegister;
use docweir_stores::batches::Batches;
use docweir_stores::control::ControlStore;
use docweir_stores::ledger::Ledger;

use super::access;
use crate::backends::{ControlBackend, Opening, StateStores};
use crate::exit::EngineError;

/// Opens the tables that `[dynamodb]` names.
pub struct DynamoControl;

struct DynamoStores {
    dynamo: Dynamo,
    options: DynamoOptions,
    entry_days: u32,
    clock: SharedClock,
    objects: Arc<dyn ObjectStore>,
    /// Store of the leases.
    leases: DynamoObjects,
    control: Arc<DynamoControlStore>,
    ledger: OnceLock<Arc<DynamoLedger>>,
    batches: OnceLock<Arc<DynamoBatches>>,
}

#[async_trait]
impl ControlBackend for DynamoControl {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    async fn open(
        &self,
        Opening { settings, clock, .. }: Opening<'_>,
        objects: &Arc<dyn ObjectStore>,
    ) -> Result<Arc<dyn StateStores>, EngineError> {
        let aws = access(settings).await?;
        let options = DynamoOptions { max_retries: settings.retry.attempts, ..settings.dynamodb.clone() };
        let dynamo = Dynamo::new(&aws, &options.endpoint);
        let place = &settings.buckets.artefacts;
        Ok(Arc::new(DynamoStores {
            leases: DynamoObjects::new(dynamo.clone(), &options.state_table, place, clock.clone()),
            control: Arc::new(DynamoControlStore::open(&aws, dynamo.clone(), options.clone(), clock.clone())),
            dynamo,
            options,
            entry_days: settings.budget.entry_days,
            clock: clock.clone(),
            objects: objects.clone(),
            ledger: OnceLock::new(),
            batches: OnceLock::new(),
        }))
    }
}

impl DynamoStores {
    fn opened_ledger(&self) -> Arc<DynamoLedger> {
        let open = || DynamoLedger::open(self.dynamo.clone(), &self.options, self.entry_days, self.clock.clone());
        self.ledger.get_or_init(|| Arc::new(open())).clone()
    }
}

impl StateStores for DynamoStores {
    fn control(&self) -> Arc<dyn ControlStore> {
        self.control.clone()
    }

    fn is_shared(&self) -> bool {
        true
    }

    /// Always returns true, because other processes use the same tables and may reserve costs or enqueue items at any
    /// time.
    fn may_have_batches(&self) -> bool {
        true
    }

    fn ledger(&self) -> Result<Arc<dyn Ledger>, EngineError> {
        Ok(self.opened_ledger())
    }

    fn batches(&self) -> Result<Arc<dyn Batches>, EngineError> {
        let (dynamo, objects, clock) = (self.dynamo.clone(), self.objects.clone(), self.clock.clone());
        let open = || DynamoBatches::new(dynamo, &self.options, self.opened_ledger(), objects, clock);
        Ok(self.batches.get_or_init(|| Arc::new(open())).clone())
    }

    fn batch_lease(&self) -> Option<LeaseRegister> {
        let leases = Arc::new(self.leases.clone());
        Some(LeaseRegister::new(leases, "leases/BATCHES".into(), self.clock.clone()))
    }
}
