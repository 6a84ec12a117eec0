package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// apiAuto is the value of --crs.api for API 2.0 and, once that is retired, 3.0.
const apiAuto = "auto"

// apiChoices are the values of --crs.api.
func apiChoices() []string {
	return []string{apiAuto, string(crsapi.API20), string(crsapi.API30), string(crsapi.APITCE)}
}

// given says which flags are on the command line.
type given struct{ endpoint, v3Endpoint, method, region, credentialsFile bool }

// validateAPI validates what --crs.api makes of other flags.
func (s *settings) validateAPI() error {
	if s.demoRetireAfter != 0 && !s.demo {
		return errors.New("--demo.retire-after needs --demo")
	}
	switch crsapi.API(s.apiChoice) {
	case crsapi.APITCE:
		if !s.given.v3Endpoint && !s.demo {
			return errors.New("--crs.api=tce needs --crs.v3-endpoint, the URL of the private cloud's API")
		}
	case crsapi.API30:
	default:
		return nil
	}
	switch {
	case s.given.method:
		return fmt.Errorf("--crs.method is for API 2.0 only: remove it, or remove --crs.api=%s", s.apiChoice)
	case s.given.endpoint && !s.given.v3Endpoint && !s.demo:
		return fmt.Errorf("--crs.endpoint is for API 2.0 only: use --crs.v3-endpoint with --crs.api=%s", s.apiChoice)
	}
	return nil
}

// usedAPIs returns the APIs that regions are read through, in the order in which
// they go over from one to the next. Whoever has an endpoint of their own does
// not want requests to a public one.
func (s *settings) usedAPIs() []crsapi.API {
	switch {
	case s.apiChoice != apiAuto:
		return []crsapi.API{crsapi.API(s.apiChoice)}
	case s.given.endpoint && !s.given.v3Endpoint:
		return []crsapi.API{crsapi.API20}
	default:
		return []crsapi.API{crsapi.API20, crsapi.API30}
	}
}

// checkedAPIs returns the APIs that --check asks: those in use, and the other one
// if that sends no request to a public endpoint in place of an own one.
func (s *settings) checkedAPIs() []crsapi.API {
	switch crsapi.API(s.apiChoice) {
	case crsapi.APITCE:
		return []crsapi.API{crsapi.APITCE}
	case crsapi.API30:
		if s.given.v3Endpoint && !s.given.endpoint {
			return []crsapi.API{crsapi.API30}
		}
	default:
		if s.given.endpoint && !s.given.v3Endpoint {
			return []crsapi.API{crsapi.API20}
		}
	}
	return []crsapi.API{crsapi.API20, crsapi.API30}
}

// configOf returns the configuration of an API, without a region. All its regions
// share the Limiter.
func (s *settings) configOf(api crsapi.API) crsapi.Config {
	cfg, preset := s.api, crsapi.DefaultConfig(api)
	cfg.API, cfg.Limiter = api, preset.Limiter
	if s.rateLimit != nil {
		cfg.Limiter = crsapi.NewLimiter(*s.rateLimit)
	}
	if api != crsapi.API20 {
		cfg.Endpoint, cfg.Method = s.v3Endpoint, preset.Method
		cfg.PageSize = min(cfg.PageSize, api.MaxPageSize())
	}
	return cfg
}

// endpointFlag returns the flag with the endpoint of an API.
func endpointFlag(api crsapi.API) string {
	if api == crsapi.API20 {
		return "--crs.endpoint"
	}
	return "--crs.v3-endpoint"
}

// perRegion in an endpoint stands for the region.
const perRegion = "{region}"

// newClient returns the client of a region, or a *crsapi.ConfigError.
func newClient(cfg crsapi.Config, region string, observe func(crsapi.Attempt)) (*crsapi.Client, error) {
	cfg.Region, cfg.Observe = region, observe
	if cfg.Limiter != nil && strings.Contains(cfg.Endpoint, perRegion) {
		// The quota belongs to the host, and each region has its own.
		cfg.Limiter = crsapi.NewLimiter(float64(cfg.Limiter.Limit()))
	}
	client, err := crsapi.NewClient(cfg)
	var invalid *crsapi.ConfigError
	if errors.As(err, &invalid) && invalid.Field == "Endpoint" && cfg.API != crsapi.API20 {
		err = &crsapi.ConfigError{Field: "V3Endpoint", Problem: invalid.Problem}
	}
	return client, err
}

// dialer returns the Config.Dial of the APIs in use.
func (s *settings) dialer() func(string, func(crsapi.Attempt)) ([]collector.Source, error) {
	var configs []crsapi.Config
	for _, api := range s.usedAPIs() {
		configs = append(configs, s.configOf(api))
	}
	return func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
		var sources []collector.Source
		for _, cfg := range configs {
			client, err := newClient(cfg, region, observe)
			if err != nil {
				return nil, err
			}
			sources = append(sources, collector.FromAPI(client))
		}
		return sources, nil
	}
}

// stateScope names what else decides which tasks an API lists.
func (s *settings) stateScope(api crsapi.API) string {
	return fmt.Sprint(s.configOf(api).Endpoint, s.api.UTCOffset, s.credentials.RoleARN)
}

// warnings says which settings have less effect than the user may expect.
func (s *settings) warnings() []string {
	var all []string
	apis := s.usedAPIs()
	last := apis[len(apis)-1]
	if most := last.MaxPageSize(); s.api.PageSize > most {
		all = append(all, fmt.Sprintf("--crs.page-size is cut to %d with API %s, which has no larger pages", most, last))
	}
	if last == crsapi.API30 && s.collector.Lookback > collector.MaxLookback30 {
		all = append(all, "API 3.0 lists the tasks of the last 30 days: a longer --crs.lookback has no effect there")
	}
	if !s.demo && slices.ContainsFunc(apis, func(api crsapi.API) bool {
		return strings.HasPrefix(s.configOf(api).Endpoint, "http://")
	}) {
		all = append(all, "the endpoint is plain http: others on the network can read tasks and key id")
	}
	return all
}
