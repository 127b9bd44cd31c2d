// File: openai/redaction.h
//
// The one place in which secrets are taken out of what a provider answered.
// Errors quote keys, and gateways echo them in headers.
//
// Example:
//   keyrotator::Verdict verdict = keyrotator::Classify(response);
//   keyrotator::internal::RedactAnswer(rotator, verdict, response);

#ifndef KEYROTATOR_OPENAI_REDACTION_H_
#define KEYROTATOR_OPENAI_REDACTION_H_

#include <algorithm>
#include <string>
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

// An answer may quote any key in any of its headers. Of a success the body is the
// model's own and stays as it is; of what is none 256 KiB of the body are kept,
// without the keys.
template <class Rotator>
void RedactAnswer(const Rotator& rotator, Verdict& verdict,
                  HttpResponse& response) {
  RedactVerdict(rotator, verdict);
  if (verdict.kind != VerdictKind::kOk) {
    // A success that turned out to be none may be of any size.
    response.body.resize(std::min(response.body.size(), kMaxErrorBody));
    RedactText(rotator, response.body);
  }
  if (response.headers.empty()) return;
  // Most quote none: one look at them all tells.
  std::string values;
  for (const Headers::Field& field : response.headers)
    values.append(field.value).append("\n");
  if (rotator.Redact(values) == values) return;
  Headers clean;
  for (const Headers::Field& field : response.headers) {
    std::string value = field.value;
    RedactText(rotator, value);
    clean.Add(field.name, std::move(value));
  }
  response.headers = std::move(clean);
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_REDACTION_H_
