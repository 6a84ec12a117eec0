// Package browser opens the pages of the exporter in Chromium, as a person does.
package browser

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"
)

var screenshots = flag.String("screenshots", "", "folder to write screenshots to")

var pages = []string{"/", "/tasks", "/backups"}

// startDemo builds the exporter and runs its demo until the test ends. It returns
// the address of the status page, without a slash.
func startDemo(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "crs_exporter")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../..", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the exporter: %v\n%s", err, out)
	}
	server := httptest.NewServer(nil)
	address := server.Listener.Addr().String() // is free again
	server.Close()
	cmd := exec.CommandContext(t.Context(), program, "--demo", "--web.listen-address="+address, "--web.route-prefix=/crs")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	base := "http://" + address + "/crs"
	for range 300 {
		resp, err := http.Get(base + "/metrics") // waits for the first poll
		if err == nil {
			resp.Body.Close()
			return base
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the exporter does not listen")
	return ""
}

// browser is a running Chromium.
type browser struct {
	*testing.T
	ctx  context.Context
	base string
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	limited, cancelAll := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancelAll)
	ctx, cancel := chromedp.NewContext(limited,
		// On Debian: apt-get install chromium
		chromedp.WithAllocatorOptions(chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", true)),
		chromedp.WithListener(func(event any) {
			// Such as that the policy of a page forbids a script or an image.
			if e, ok := event.(*log.EventEntryAdded); ok {
				t.Errorf("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
			}
		}))
	t.Cleanup(cancel)
	return &browser{T: t, ctx: ctx, base: startDemo(t)}
}

func run[T any](b *browser, action chromedp.Action[T]) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, action)
	if err != nil {
		b.Fatal(err)
	}
	return value
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.Fatal(err)
	}
}

func (b *browser) open(page string) {
	b.Helper()
	run(b, chromedp.Steps(chromedp.Navigate(b.base+page), chromedp.WaitReady("footer")))
}

// evaluate runs JavaScript in the page, which has none of its own.
func evaluate[T any](b *browser, script string) T {
	b.Helper()
	return run(b, chromedp.Evaluate[T](script))
}

type look struct {
	scheme        string
	width, height int64
}

var looks = map[string]look{
	"light":       {"light", 1280, 900},
	"dark":        {"dark", 1280, 900},
	"phone":       {"light", 360, 740},
	"phone, dark": {"dark", 360, 740},
}

func (b *browser) use(l look) {
	b.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.width < 500,
	})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}},
	})
}

// TestLooks opens each page in light and dark, on a screen and a phone.
func TestLooks(t *testing.T) {
	b := openBrowser(t)
	for name, l := range looks {
		b.use(l)
		for _, page := range pages {
			b.open(page)
			if width := evaluate[int64](b, `document.documentElement.scrollWidth`); width > l.width {
				t.Errorf("%s of %s: the page is %d wide, the screen %d", name, page, width, l.width)
			}
			dark := evaluate[bool](b, `getComputedStyle(document.body).backgroundColor.match(/\d+/)[0] < 128`)
			if dark != (l.scheme == "dark") {
				t.Errorf("%s of %s: the background is dark: %t", name, page, dark)
			}
		}
	}
}

// TestScreenshots writes the pictures of the README.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		return // they are not wanted
	}
	b := openBrowser(t)
	for name, shot := range map[string]struct {
		page string
		look
	}{
		"status":        {"/", look{"light", 1000, 760}},
		"tasks":         {"/tasks?status=failed&status=error", look{"dark", 1000, 700}},
		"backups":       {"/backups", look{"light", 900, 700}},
		"backups-phone": {"/backups#calendar", look{"dark", 360, 740}},
	} {
		b.use(shot.look)
		b.open(shot.page)
		picture := run(b, chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
