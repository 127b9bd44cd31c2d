// File: openai/redaction.h
//
// The one place in which secrets are taken out of what a provider answered.
// Errors quote keys, and gateways echo them in headers.
//
// Example:
//   keyrotator::Verdict verdict = keyrotator::Classify(response);
//   keyrotator::internal::RedactAnswer(rotator, lease, verdict, response);

#ifndef KEYROTATOR_OPENAI_REDACTION_H_
#define KEYROTATOR_OPENAI_REDACTION_H_

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/http/message.h"
#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/verdict.h"

namespace keyrotator::internal {

template <class Rotator>
void RedactText(const Rotator& rotator, std::string& text) {
  if (!text.empty()) text = rotator.Redact(text);
}

template <class Rotator>
void RedactVerdict(const Rotator& rotator, Verdict& verdict) {
  if (verdict.kind == VerdictKind::kOk) return;
  RedactText(rotator, verdict.message);
  RedactText(rotator, verdict.code);
}

// What is no success may quote any key, anywhere; of its body 256 KiB are kept.
// Of a success the body is the
// model's own and stays as it is; its headers are looked through for the key of
// `lease`, which it was sent with.
template <class Rotator>
void RedactAnswer(const Rotator& rotator, const Lease& lease, Verdict& verdict,
                  HttpResponse& response) {
  RedactVerdict(rotator, verdict);
  const std::string_view secret = lease.Reveal();
  const auto echoes = [&](const Headers::Field& field) {
    return field.value.find(secret) != std::string::npos;
  };
  const Headers& headers = response.headers;
  if (verdict.kind != VerdictKind::kOk) {
    // A success that turned out to be none may be of any size.
    response.body.resize(std::min(response.body.size(), kMaxErrorBody));
    RedactText(rotator, response.body);
  } else if (std::none_of(headers.begin(), headers.end(), echoes)) {
    return;
  }
  Headers clean;
  for (const Headers::Field& field : headers) {
    std::string value = field.value;
    RedactText(rotator, value);
    clean.Add(field.name, std::move(value));
  }
  response.headers = std::move(clean);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_REDACTION_H_
