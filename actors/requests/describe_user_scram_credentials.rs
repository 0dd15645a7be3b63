//! DescribeUserScramCredentials (key 50, version 0): who can log in with SCRAM. Nobody can yet, so nobody is found.

use std::collections::BTreeMap;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, DescribeUserScramCredentialsResult,
};

use super::RequestContext;

pub fn answer(
    _: &RequestContext,
    request: DescribeUserScramCredentialsRequest,
    _version: i16,
) -> DescribeUserScramCredentialsResponse {
    let mut times = BTreeMap::<Str, usize>::new();
    for user in request.users.into_iter().flatten() {
        *times.entry(user.name).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| not_found(user, times > 1)).collect();
    DescribeUserScramCredentialsResponse { results, ..Default::default() }
}

fn not_found(user: Str, is_repeated: bool) -> DescribeUserScramCredentialsResult {
    let (code, message) = if is_repeated {
        let message = "Cannot describe SCRAM credentials for the same user twice in a single request";
        (ErrorCode::DuplicateResource, message)
    } else {
        (ErrorCode::ResourceNotFound, "Attempt to describe a user credential that does not exist")
    };
    let error_message = Some(Str::from(format!("{message}: {user}")));
    DescribeUserScramCredentialsResult { user, error_code: code.code(), error_message, ..Default::default() }
}
