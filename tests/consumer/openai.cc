// Judges an answer and lets a failover go on with another key.

#include <cstdio>
#include <string_view>

#include "keyrotator/keyrotator.h"
#include "keyrotator/openai/classify.h"
#include "keyrotator/openai/failover.h"

int main() {
  keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
  keyrotator::Failover failover(rotator, keyrotator::OpenAIClassifier{});
  if (failover.Next().what != keyrotator::Do::kSend) return 1;
  failover.Report(keyrotator::HttpResponse{.status = 401});
  if (failover.Next().what != keyrotator::Do::kSend) return 2;
  if (failover.key().Reveal() != std::string_view("sk-b")) return 3;
  std::puts("openai: ok");
}
