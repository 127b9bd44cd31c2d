// Uses the rotator as a project of its own does, with warnings that keyrotator
// makes errors in its own build: none of our flags may reach a consumer.

#include <cstdio>
#include <string>

#include "keyrotator/keyrotator.h"

namespace {

int Narrowed(long unused, double value) {
  const int result = value;
  {
    const int result = 1;
    static_cast<void>(result);
  }
  return result;
}

}  // namespace

int main() {
  keyrotator::KeyRotator rotator(
      {keyrotator::ApiKey("sk-a", {.name = "first"}),
       keyrotator::ApiKey("sk-b", {.name = "second"})});
  const auto first = rotator.Pick();
  if (!first || first->name() != "first" || !rotator.MarkFailed(*first))
    return 1;
  const auto second = rotator.Pick();
  if (!second || second->name() != "second") return 2;
  if (!rotator.MarkRateLimited(*second)) return 3;
  if (rotator.Pick()) return 4;
  std::printf("core: ok\n");
  return Narrowed(0, 0);
}
