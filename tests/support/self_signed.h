// File: self_signed.h
//
// A fresh key and a certificate that it signed itself, for HTTPS servers in
// tests; unless told otherwise for 127.0.0.1, and valid for an hour.

#ifndef KEYROTATOR_TESTS_SUPPORT_SELF_SIGNED_H_
#define KEYROTATOR_TESTS_SUPPORT_SELF_SIGNED_H_

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/support/temporary_directory.h"

namespace keyrotator::testing {

struct SelfSignedOptions {
  long ends = 3600;  // seconds from now
  const char* name = "IP:127.0.0.1";
};

class SelfSigned {
 public:
  explicit SelfSigned(SelfSignedOptions options = {}) {
    key_.reset(EVP_EC_gen("P-256"));
    certificate_.reset(X509_new());
    X509* const x = certificate_.get();
    X509_set_version(x, 2);  // counted from 0: version 3
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), std::min(-60L, options.ends - 60));
    X509_gmtime_adj(X509_getm_notAfter(x), options.ends);
    X509_set_pubkey(x, key_.get());
    X509_NAME* const name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(
        name, "CN", MBSTRING_ASC,
        reinterpret_cast<const unsigned char*>("keyrotator test"), -1, -1, 0);
    X509_set_issuer_name(x, name);
    const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> names(
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name,
                            options.name),
        X509_EXTENSION_free);
    X509_add_ext(x, names.get(), -1);
    std::FILE* const file = std::fopen(file_.c_str(), "w");
    if (X509_sign(x, key_.get(), EVP_sha256()) == 0 || file == nullptr ||
        PEM_write_X509(file, x) == 0 || std::fclose(file) != 0) {
      throw std::runtime_error("cannot make a certificate");
    }
  }
  SelfSigned(const SelfSigned&) = delete;
  SelfSigned& operator=(const SelfSigned&) = delete;

  EVP_PKEY* key() const { return key_.get(); }
  X509* certificate() const { return certificate_.get(); }
  // The certificate as a PEM file: it is its own authority.
  const std::string& file() const { return file_; }

 private:
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{nullptr,
                                                           EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> certificate_{nullptr, X509_free};
  const TemporaryDirectory directory_;
  const std::string file_ = directory_ / "certificate.pem";
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_SELF_SIGNED_H_
