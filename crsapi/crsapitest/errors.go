package crsapitest

import "cmp"

// refuse returns an error of API 2.0 with the documented codeDesc, and with the
// documented message if message is empty.
func refuse(code int, message string) render {
	documented := apiErrors[code]
	return apiError(code, documented.desc, cmp.Or(message, documented.message, "failed"))
}

// invalidCommon refuses a common parameter, or the encoding of the request.
func invalidCommon(name, what string) render { return refuse(4000, name+" "+what) }

// invalid refuses a parameter of the action.
func invalid(name, what string) render {
	return refuse(4000, module+"InvalidParameter: "+name+" "+what)
}

// apiErrors has the documented codes of API 2.0: codeDesc, which the documents give
// for only a few codes, message, and the code of API 3.0 that means the same.
var apiErrors = map[int]struct{ desc, message, name string }{
	4000: {"InvalidParameter", "invalid or missing parameter", "InvalidParameter"},
	4100: {"AuthFailure", "authentication failed: wrong signature", "AuthFailure.SignatureFailure"},
	4101: {"", "not authorized for the API or the resource", "AuthFailure.UnauthorizedOperation"},
	4102: {"", "not authorized for the API or the resource", "AuthFailure.UnauthorizedOperation"},
	4103: {"", "not authorized for the API or the resource", "AuthFailure.UnauthorizedOperation"},
	4104: {"", "SecretId does not exist", "AuthFailure.SecretIdNotFound"},
	4105: {"", "token error", "AuthFailure.TokenFailure"},
	4106: {"", "MFA failed", "AuthFailure.MFAFailure"},
	4110: {"", "not authorized for the API or the resource", "AuthFailure.UnauthorizedOperation"},
	4200: {"", "the request has expired", "AuthFailure.SignatureExpire"},
	4300: {"", "access denied", "UnauthorizedOperation"},
	4400: {"RequestLimitExceeded", "request quota exceeded", "RequestLimitExceeded"},
	4420: {"RequestLimitExceeded", "request quota exceeded", "RequestLimitExceeded"},
	4480: {"RequestLimitExceeded", "request quota exceeded", "RequestLimitExceeded"},
	4500: {"", "replay: Nonce was used before, or the clocks differ", "AuthFailure.SignatureExpire"},
	4600: {"", "protocol not supported", "UnsupportedProtocol"},
	5000: {"", "resource not found", "ResourceNotFound"},
	5100: {"", "operation failed, try later", "FailedOperation"},
	6000: {"", "internal error, try later", "InternalError"},
	6100: {"", "version not supported, or wrong host for the action", "NoSuchVersion"},
	6200: {"", "under maintenance, try later", "ServiceUnavailable"},
}
