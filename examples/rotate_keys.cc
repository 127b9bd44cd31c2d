// Eight requests over three keys. One key is revoked and one is limited; every
// request is still served.

#include <keyrotator/keyrotator.h>

#include <chrono>
#include <string>

// Stands in for your HTTP client: the status that the provider answers.
int Post(const std::string& authorization) {
  if (authorization == "Bearer sk-revoked") return 401;
  if (authorization == "Bearer sk-busy") return 429;
  return 200;
}

int main() {
  keyrotator::KeyRotator rotator({"sk-revoked", "sk-busy", "sk-good"});
  for (int request = 1; request <= 8; ++request) {
    while (auto key = rotator.Pick()) {
      const int status = Post("Bearer " + std::string(key->Reveal()));
      if (status == 200)
        fmt::print("request {} was served with {}\n", request, *key);
      if (status == 401) {
        rotator.MarkFailed(*key);
      } else if (status == 429) {
        rotator.MarkRateLimited(*key, std::chrono::seconds(20));
      } else {
        break;  // served, or not the key's fault
      }
    }
  }
  for (const auto& key : rotator.Snapshot()) fmt::print("{}\n", key);
}
