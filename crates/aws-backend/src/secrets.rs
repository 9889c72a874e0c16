//! AWS Secrets Manager.

use async_trait::async_trait;
use docweir_aws::secrets::SecretsManager;
use docweir_aws::{Aws, AwsOptions, FaultKind};
use tokio::sync::OnceCell;

use docweir_providers::secrets::{SecretError, Vault};

pub struct SecretsManagerVault {
    options: AwsOptions,
    endpoint: String,
    client: OnceCell<(SecretsManager, String)>,
}

impl SecretsManagerVault {
    pub fn new(options: AwsOptions, endpoint: &str) -> Self {
        Self { options, endpoint: endpoint.to_owned(), client: OnceCell::new() }
    }

    /// Made when it is first needed, with the region's name.
    async fn client(&self) -> Result<&(SecretsManager, String), SecretError> {
        let make = async || {
            let aws = Aws::find(self.options.clone()).await;
            let Some(region) = aws.region().map(str::to_owned) else {
                let text = "a secret can't be read: no region is configured; set `aws.region`, or AWS_REGION";
                return Err(SecretError::lasting(text));
            };
            Ok((SecretsManager::new(&aws, &self.endpoint), region))
        };
        self.client.get_or_try_init(make).await
    }
}

#[async_trait]
impl Vault for SecretsManagerVault {
    async fn read(&self, name: &str, setting: &str) -> Result<Vec<u8>, SecretError> {
        let (client, region) = self.client().await?;
        let fault = match client.value(name).await {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let which = format!("the secret `{name}`, which `{setting}` names");
        Err(match fault.kind {
            FaultKind::NotFound => SecretError::lasting(format!(
                "there is no value of {which}, in {region}: make it by `aws secretsmanager create-secret`, or correct \
                 `{setting}` or `aws.region`"
            )),
            FaultKind::Denied => SecretError::lasting(format!(
                "{which}, may not be read ({fault}): look at the credentials, and allow secretsmanager:GetSecretValue as \
                 `docweir infra policy` says"
            )),
            FaultKind::Throttled | FaultKind::Unreachable | FaultKind::Unknown | FaultKind::Conflict => {
                SecretError::passing(format!("{which}, can't be read just now: {fault}"))
            }
            FaultKind::Invalid | FaultKind::Condition => {
                SecretError::lasting(format!("{which}, can't be read: {fault}; correct `{setting}`"))
            }
        })
    }
}
