//! Reads secrets from AWS Secrets Manager.

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

    /// Returns the client and the name of its region. Creates the client on the first call.
    async fn client(&self) -> Result<&(SecretsManager, String), SecretError> {
        let make = async || {
            let aws = Aws::find(self.options.clone()).await;
            let Some(region) = aws.region().map(str::to_owned) else {
                let text = "can't read secrets: no region is configured; set `aws.region` or AWS_REGION";
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
        let which = format!("the secret `{name}` (named by `{setting}`)");
        Err(match fault.kind {
            FaultKind::NotFound => SecretError::lasting(format!(
                "{which} has no value in {region}: create it with `aws secretsmanager create-secret`, or correct \
                 `{setting}` or `aws.region`"
            )),
            FaultKind::Denied => SecretError::lasting(format!(
                "reading {which} was denied ({fault}): check the credentials, and allow them \
                 secretsmanager:GetSecretValue (`docweir infra policy` prints the policy)"
            )),
            FaultKind::Throttled | FaultKind::Unreachable | FaultKind::Unknown | FaultKind::Conflict => {
                SecretError::passing(format!("{which} can't be read at the moment: {fault}"))
            }
            FaultKind::Invalid | FaultKind::Condition => {
                SecretError::lasting(format!("{which} can't be read: {fault}; correct `{setting}`"))
            }
        })
    }
}
