// File: page.h
//
// The page for people, page.html, as it was when the program was built.
//
// Example:
//   connection.Answer(200, headers, gateway::kPage);

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_PAGE_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_PAGE_H_

#include <string_view>

namespace gateway {

extern const std::string_view kPage;

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_PAGE_H_
